"""What happens to a frame: each step can be read, tested and reused without a cluster."""
