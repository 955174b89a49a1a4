"""Digests of random number generators, based on what they will produce next and how they will spawn others."""

from __future__ import annotations

from typing import Any

from penstock.digests.walk import UndigestibleError, Walk, hash_node, hash_type


def python(value: Any, walk: Walk) -> bytes:
    """Return the digest of a `random.Random`."""
    return hash_node(b"random", (walk.at(".getstate()", value.getstate()),))


def bit_generator(value: Any, walk: Walk) -> bytes:
    """Return the digest of a numpy bit generator: its state, and the seed from which `spawn` starts."""
    state = walk.at(".state", value.state)
    return hash_node(b"numpy.bit_generator", (hash_type(type(value)), state, _seed(value, walk)))


def generator(value: Any, walk: Walk) -> bytes:
    """Return the digest of a `numpy.random.Generator`."""
    return hash_node(b"numpy.generator", (walk.at(".bit_generator", value.bit_generator),))


def random_state(value: Any, walk: Walk) -> bytes:
    """Return the digest of a `numpy.random.RandomState`, including a cached normal deviate."""
    return hash_node(b"numpy.random_state", (walk.at(".get_state()", value.get_state(legacy=False)),))


def seed_sequence(value: Any, walk: Walk) -> bytes:
    """Return the digest of a `numpy.random.SeedSequence`. The number of spawned children determines the next ones."""
    parts = (_plain(value.entropy), tuple(map(int, value.spawn_key)), int(value.pool_size))
    return hash_node(b"numpy.seed_sequence", (walk.of(parts), walk.of(int(value.n_children_spawned))))


def _plain(entropy: Any) -> Any:
    """Return entropy in one form: `SeedSequence([1, 2])` equals that of the array of these numbers."""
    if entropy is None or isinstance(entropy, int):
        return entropy
    try:
        return [int(word) for word in entropy]
    except TypeError:
        return int(entropy)


def _seed(value: Any, walk: Walk) -> bytes:
    try:
        seed = value._seed_seq if hasattr(value, "_seed_seq") else value.seed_seq
    except (AttributeError, TypeError) as error:
        raise UndigestibleError("a bit generator whose seed cannot be read has no stable digest") from error
    return walk.at(".seed_seq", seed)
