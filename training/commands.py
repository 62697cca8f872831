"""The commands of the `grape` program that train."""

from training.settings import TrainSettings


class Train(TrainSettings):
    """Trains a rewriter by where the right picture ranks, and writes an adapter folder."""

    def cli_cmd(self) -> None:
        from training.pipeline import train

        train(self)
