"""Users' objects: their texts and copies, and finding secret or live parts in them."""
