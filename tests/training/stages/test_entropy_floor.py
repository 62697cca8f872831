"""The entropy floor: a share of the run's first steps, also after a resume."""

from transformers import TrainerControl, TrainerState
from trl import GRPOConfig

from training.stages.entropy_floor import EntropyFloor


def test_the_floor_is_a_share_of_the_first_steps_entropy(tmp_path: object) -> None:
    config = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, use_adaptive_entropy=True,
        entropy_target=0.0,
    )  # fmt: skip
    floor, state = EntropyFloor(0.5, first=2), TrainerState()
    state.log_history = [{"step": 1, "entropy": 3.0}]
    floor.on_step_begin(config, state, TrainerControl())
    assert config.entropy_target == 0.0
    state.log_history += [{"step": 2, "entropy": 1.0}, {"step": 2, "validation/gap": 9.0}]
    floor.on_step_begin(config, state, TrainerControl())
    assert config.entropy_target == 1.0
    state.log_history += [{"step": 3, "entropy": 0.1}]
    EntropyFloor(0.5, first=2).on_step_begin(config, state, TrainerControl())
    assert config.entropy_target == 1.0
