"""What holds for every test process."""

import os

# Before torch is imported: small kernels on two threads beside another busy process wait for each
# other, and a test of a second takes half a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
