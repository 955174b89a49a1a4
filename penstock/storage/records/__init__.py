"""Records of results: what they say, what they are called, how they are signed."""
