"""The same footage, however it came: what the benchmark of tracks makes of a clip's detections."""

import numpy as np

from jobs.benchmark_tracking import _one_frame, variants
from jobs.crowd import crowd, crowd_footage
from jobs.mot import tracks_of
from jobs.tracking_clips import Clip, tracked_through
from pipeline.track import TrackSettings

FRAMES = 60
FOOTAGE = crowd_footage()
CLIP = Clip(
    name="crowd",
    footage=FOOTAGE,
    detections=tuple(_one_frame(FOOTAGE, n, *seen) for n, seen in enumerate(crowd(3, FRAMES / 25))),
    truth=tracks_of(()),
)


def test_each_variant_has_the_boxes_of_its_frames_and_is_numbered_as_real_footage_is():
    whole = {float(d.pts_s[0]): d.boxes for d in CLIP.detections}
    for name, recordings in variants(CLIP).items():
        share = int(name.split("1/")[1][0]) if "1/" in name else 1
        assert len(recordings) == (3 if "3 recordings" in name else 1)
        seen = []
        for number, recording in enumerate(recordings):
            assert recording.footage.track.rate_fps == 25.0 / share
            assert recording.footage.key.sequence == number
            indices = np.concatenate([part.frame_index for part in recording.detections])
            assert indices.tolist() == list(range(len(indices)))
            for part in recording.detections:
                for row, pts_s in enumerate(part.pts_s.tolist()):
                    assert np.array_equal(part.boxes[part.frame_row == row], whole[pts_s])
                    seen.append(pts_s)
        assert seen == [n / 25 for n in range(0, FRAMES, share)]


def test_batches_and_cuts_change_no_track():
    def told(recordings):
        frames = tracked_through(recordings, TrackSettings())
        return [
            (round(f.time_s, 6), sorted((o.track_id, *o.box.tolist()) for o in f.observations))
            for f in frames
        ]

    by = {name: told(recordings) for name, recordings in variants(CLIP).items()}
    assert any(rows for _, rows in by["as it is"])
    for name in ("batches of 1", "batches of 7", "in 3 recordings"):
        assert by[name] == by["as it is"], name
    assert by["at 1/2, in 3 recordings"] == by["at 1/2 of its rate"]
