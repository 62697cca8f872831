"""What stays loaded is not collected; what a dead engine leaves behind is."""

import gc

from service.garbage_collector import give_back_memory, keep_what_is_loaded


class Ring:
    def __init__(self) -> None:
        self.own = self


def test_what_is_loaded_is_kept_and_garbage_is_not() -> None:
    try:
        keep_what_is_loaded()
        kept = gc.get_freeze_count()
        assert kept > 10_000
        Ring()
        give_back_memory()
        assert not any(isinstance(one, Ring) for one in gc.get_objects())
        keep_what_is_loaded()  # a second time nothing is kept twice
        assert gc.get_freeze_count() < 2 * kept
    finally:
        gc.unfreeze()
