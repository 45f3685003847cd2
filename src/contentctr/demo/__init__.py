"""What `make demo` and `contentctr demo --live` run."""
