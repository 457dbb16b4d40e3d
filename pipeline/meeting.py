"""Whether a tracker may have mixed up two people who came near to each other, from look to look.

look 1      a ●    ● b              looks so far apart that neither can have stepped over to the
look 2       a ●  ● b               other's place are evidence for the tracker's ids; where two boxes
look 3        a ●● b       <──      lie in one place it could be either, and only how they went on
look 4       a ●  ● b               before and behind can tell
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.pieces import PLACE_NOISE, SPEED

Float64s = NDArray[np.float64]


def kept_odds(
    before: Float64s, behind: Float64s, pairs: Sequence[tuple[int, int]], step_s: float
) -> Float64s:
    """Return the log odds that ids were kept right over a step, against the likeliest mix-up.

    Args:
        before: (n, 4) boxes at the look before, corner to corner.
        behind: (m, 4) at this one.
        pairs: Which of these have one id.
        step_s: Seconds between them, in which everybody may have walked.

    Returns:
        Of each pair: far above 0 where nobody else was near; below 0 where a mix-up is likelier.
    """
    own, now = (np.array(each, np.int64) for each in zip(*pairs, strict=True))
    # The errors of two looks in a row are alike: together they count about once.
    spread = PLACE_NOISE**2 + (SPEED * step_s) ** 2
    # [i, j]: half the squared distance from i before to j behind, in deviations.
    unit = np.maximum(
        before[:, None, 3] - before[:, None, 1], behind[None, :, 3] - behind[None, :, 1]
    )
    off = np.stack(
        [
            before[:, None, 0] + before[:, None, 2] - behind[None, :, 0] - behind[None, :, 2],
            2 * (before[:, None, 1] - behind[None, :, 1]),
        ]
    )
    apart = ((off / 2) ** 2).sum(axis=0) / np.maximum(unit, 1.0) ** 2 / (2 * spread)
    straight = apart[own, now]
    # Somebody was at my place who is gone now, or I am where somebody else has just come.
    gone = np.delete(np.arange(len(before)), own)
    come = np.delete(np.arange(len(behind)), now)
    lone = np.concatenate([apart[gone][:, now].T, apart[own][:, come]], axis=1) - straight[:, None]
    swapped = apart[own][:, now] + apart[own][:, now].T - straight[:, None] - straight[None]
    np.fill_diagonal(swapped, np.inf)
    least: Float64s = np.concatenate([lone, swapped], axis=1).min(axis=1)
    return least
