"""One module for each notebook that needs one."""
