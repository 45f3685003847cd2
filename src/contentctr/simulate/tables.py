"""What simulated rooms are made of: activities, streamer types and the tables between them.

Assumed, not measured; docs/simulator.md says why each is as it is. Log-odds throughout.
"""

from __future__ import annotations

import numpy as np

ACTIVITIES = ("chatting", "dancing", "singing", "contest", "giveaway", "product", "idle")
TYPES = ("dancer", "singer", "talker", "seller", "gamer")

PREFERENCE = np.array(
    [  # chatting, dancing, singing, contest, giveaway, product, idle
        [3.0, 6.0, 1.0, 2.0, 0.8, 0.8, 1.0],
        [3.0, 1.0, 6.0, 2.0, 0.8, 0.8, 1.0],
        [6.0, 0.6, 1.0, 2.0, 1.0, 1.0, 1.2],
        [2.5, 0.6, 0.6, 0.8, 2.0, 6.0, 1.0],
        [2.5, 0.5, 0.5, 6.0, 1.0, 1.0, 1.2],
    ]
)
"""How much a streamer of the row's type likes to start the column's activity."""

FOLLOWS = np.array(
    [  # to: chatting, dancing, singing, contest, giveaway, product, idle
        [0.0, 1.0, 1.0, 1.2, 1.0, 1.2, 1.0],
        [1.5, 0.0, 1.0, 1.0, 1.0, 0.5, 1.5],
        [1.5, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0],
        [1.2, 1.0, 1.0, 0.0, 2.0, 0.8, 1.2],
        [1.2, 1.0, 1.0, 0.8, 0.0, 2.0, 0.8],
        [1.2, 0.8, 0.8, 0.8, 2.0, 0.0, 1.0],
        [2.0, 1.0, 1.0, 1.0, 0.8, 1.0, 0.0],
    ]
)
"""Factor on PREFERENCE for the column's activity after the row's; never the same one again."""

MEAN_DURATION = np.array([5.0, 4.0, 5.0, 7.0, 3.0, 6.0, 2.5])
"""Mean segments an activity lasts; drawn as 1 + Poisson(mean - 1)."""

ATTRACTION = np.array(
    [  # chatting, dancing, singing, contest, giveaway, product, idle
        [-0.3, 1.1, 0.2, 0.4, 0.5, -1.0, -1.3],
        [-0.2, 0.1, 1.1, 0.3, 0.4, -1.0, -1.3],
        [0.7, -0.3, -0.2, 0.4, 0.5, -0.6, -1.3],
        [-0.5, -0.6, -0.6, 0.0, 1.0, 0.6, -1.2],
        [0.0, -0.5, -0.5, 1.1, 0.5, -0.8, -1.2],
    ]
)
"""What the column's activity adds for the audience of a streamer of the row's type."""

BURST = np.array([0.2, 0.7, 0.6, 0.8, 1.0, 0.3, 0.0])
"""What an activity adds in its first segment; decays over the first three."""

SILENCE = np.array([0.03, 0.35, 0.15, 0.08, 0.05, 0.03, 0.65])
"""Probability that the streamer says nothing in a segment of the activity."""

COMMENTING = np.array([1.2, 0.9, 0.9, 1.1, 2.5, 1.3, 0.6])
"""Factor on the rate of comments in a segment whose comments are about the activity."""

SPEECH_LAGS = np.array([-2, -1, 0, 1, 2])
"""Segments by which speech about an occurrence comes before (< 0) or after the pictures."""
SPEECH_LAG_WEIGHTS = np.array([0.1, 0.25, 0.35, 0.2, 0.1])
COMMENT_LAGS = np.array([0, 1, 2])
"""Segments by which comments about an occurrence come after the pictures."""
COMMENT_LAG_WEIGHTS = np.array([0.5, 0.35, 0.15])

ENTER_DELAY = np.array([0.7, 0.25, 0.05])
"""Share of clickers who enter the room 0, 1, 2 segments after the click."""
REACTION = np.array([0.3, 0.5, 0.2])
"""Weights of attraction 0, 1, 2 segments ago in what the audience does now."""
ZONES_MIN = (0, 480, 540, 330, -300)
"""Minutes east of UTC of the zones that rooms are recorded in."""
