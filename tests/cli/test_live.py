"""serve and worker refuse what would leave them open, and tell no secret."""

import pytest
from typer.testing import CliRunner

from contentctr.cli import app
from contentctr.errors import InputError
from contentctr.live.redis.messages import connect
from contentctr.score import checkpoint
from live_service import KNOWN, SPEC, make_model


def refused(*words, **environment):
    """The error of a command with these words, before it has looked at any model."""
    result = CliRunner().invoke(app, [str(w) for w in words], env=environment)
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


@pytest.mark.parametrize("key", ["", " \n"])
def test_a_blank_key_starts_nothing(tmp_path, key):
    path = tmp_path / "key"
    path.write_text(key)
    told = refused("serve", "model", "--api-key-file", path)
    assert told == f"{path}: must hold the API key, and is blank"
    told = refused("serve", "model", CONTENTCTR_API_KEY=key)
    assert told == "$CONTENTCTR_API_KEY: must hold the API key, and is blank"
    told = refused("worker", "model", CONTENTCTR_REDIS=key)
    assert told == "$CONTENTCTR_REDIS: must hold the URL of Redis, and is blank"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_let_in_only_with_a_key(host):
    assert f"--host {host}: other machines could do" in refused("serve", "model", "--host", host)
    # With a key, or where it is wanted, the next thing that is wrong is the model.
    for words, environment in ((["--insecure"], {}), ([], {"CONTENTCTR_API_KEY": "k"})):
        assert "model" in refused("serve", "model", "--host", host, *words, **environment)
    assert "model" in refused("serve", "model", "--host", "127.0.0.2")


def test_no_error_tells_the_password_of_redis(tmp_path):
    path = tmp_path / "redis"
    for url in (
        "redis://u:S3CRET@127.0.0.1:x/0",
        "http://u:S3CRET@h",
        "S3CRET",
        "redis://:S3C/RET@h",
    ):
        with pytest.raises(InputError, match="must be a Redis URL") as error:
            connect(url)
        assert "S3C" not in str(error.value)
    told = refused("serve", "model", "--redis", "redis://h", "--redis-file", path)
    assert "must not be given beside --redis" in told
    assert "Redis: needs --redis" in refused("worker", "model")


@pytest.mark.parametrize("scored_by", [[], ["--url", "http://127.0.0.1:9"]])
def test_a_model_that_sees_later_segments_watches_nothing(tmp_path, scored_by):
    model, config = make_model("without_mask")
    checkpoint.save(tmp_path / "m", model, config=config, spec=SPEC, vocabulary=KNOWN, info={})
    told = refused("watch", tmp_path / "m", "http://127.0.0.1:9/v.ts", *scored_by)
    assert "to score live rooms, not 'without_mask'" in told
