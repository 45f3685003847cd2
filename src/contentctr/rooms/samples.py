"""What a recording's sound is here, for whoever does not open recordings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16000
"""Samples a second: what recognisers of speech take."""
Samples = NDArray[np.float32]
"""[n] of one channel, in [-1, 1]."""
