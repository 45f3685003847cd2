"""Chat logs in the forms that recorders, downloaders and chat clients write."""
