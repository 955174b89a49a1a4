"""Parts of a definition outside its source: attached attributes, generated classes, and the objects it mentions."""
