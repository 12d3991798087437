"""What a processor makes of plain Python: the measure of what a hook may cost on it."""

from __future__ import annotations

import statistics
import time

DRAFTS = 4


def median_pass_seconds(requests: int) -> float:
    """Median of 300 passes in plain Python over so many requests, with a list for each."""
    request_ids = [f"cmpl-{i:032x}" for i in range(requests)]
    seconds = []
    for _ in range(300):
        began = time.thread_time()
        drafts = {request_id: [1] * DRAFTS for request_id in request_ids}
        lengths = [len(drafts.get(request_id, ())) for request_id in request_ids]
        dict(zip(request_ids, lengths, strict=True))
        seconds.append(time.thread_time() - began)
    return statistics.median(seconds)
