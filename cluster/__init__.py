"""Where the steps run, and in how much memory: the one folder that knows Ray."""
