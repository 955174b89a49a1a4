"""Records of results: their contents, names and signatures."""
