"""What several tests share, taken out of test_phd_annotations."""

from pathlib import Path

HEADER = "youtubeId,start,duration,user_id,video_duration,is_last"


def write_csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path
