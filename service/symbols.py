"""Pictures whose metadata holds the very character that was typed come first."""

from collections.abc import Sequence

from models.search.fusion import FusedHit


def with_first(hits: Sequence[FusedHit], positions: Sequence[int], k: int) -> list[FusedHit]:
    """The best ``k`` hits, with those at these positions before all others.

    Args:
        hits: all that was found. A picture that was not found has the score 0.
    """
    found = {hit.position: hit for hit in hits}
    first = [found.get(place) or FusedHit(place, 0.0, 0.0, (0,)) for place in positions]
    return [*first, *(hit for hit in hits if hit.position not in positions)][:k]
