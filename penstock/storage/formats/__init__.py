"""Formats: serializers that turn values into bytes and back."""
