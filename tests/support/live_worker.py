"""A worker as a process: python live_worker.py REDIS_URL LEASE_S [other]."""

import signal
import sys

import torch

from contentctr.live.redis.messages import connect
from contentctr.live.redis.worker import Worker
from live_redis import MODEL, make_other
from live_service import MORE, make_engine

if __name__ == "__main__":
    torch.set_num_threads(1)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    engine = make_engine(max_rooms=64, batch_size=8, sizes=MORE, model_id=MODEL)
    if sys.argv[3:] == ["other"]:
        engine = make_other()
    Worker(connect(sys.argv[1]), engine, partitions=4, lease_s=float(sys.argv[2]), poll_s=0.02).run(
        lambda: ended
    )
