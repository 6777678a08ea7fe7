"""A memory with a bound: of what does not fit, the least used is let go."""

from __future__ import annotations

from collections import OrderedDict


class Bounded[K, V]:
    """Values by key, of at most `most` in all by the size each was given."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is kept under the key."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def set(self, key: K, value: V, *, size: int) -> None:
        """Keep it in place of what was there; what is larger than the whole memory is not kept."""
        self.drop(key)
        self._values[key] = value, size
        self._size += size
        while self._size > self._most:
            _, (_, freed) = self._values.popitem(last=False)
            self._size -= freed

    def drop(self, key: K) -> None:
        """Forget it."""
        _, freed = self._values.pop(key, (None, 0))
        self._size -= freed
