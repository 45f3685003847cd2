"""`python -m contentctr`, and `accelerate launch -m contentctr`."""

from contentctr.cli import main

main()
