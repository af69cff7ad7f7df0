"""From the options on models to the models: what `analyze` and `replay` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbal.analyzers.barrier.step_time import StepTimeModel
    from lbal.analyzers.energy.power import Costs, EnergyView


@dataclass(frozen=True)
class ModelOptions:
    """The options that choose models, as given."""

    step_model: str | None
    rank_speed: Sequence[str]
    power_model: str | None
    gpus_per_rank: int | None
    costs: str | None

    def given_step_model(self, max_num_seqs: int) -> tuple[StepTimeModel | None, list[str]]:
        """The step-time model that was named, None if none was, and notes on it."""
        from lbal.analyzers.models.step_models import named_step_model

        if self.step_model is None:
            return None, []
        model, notes = named_step_model(self.step_model, max_num_seqs)
        return self.with_speeds(model), notes

    def with_speeds(self, model: StepTimeModel) -> StepTimeModel:
        """The model with the rank speeds that were given, beside those it has."""
        from lbal.analyzers.models.step_models import rank_speeds

        given = rank_speeds(self.rank_speed)
        return model.with_speeds({**dict(model.rank_speeds), **given}) if given else model

    def files(self) -> list[str]:
        """The names among them that can only be files, or that exist as files."""
        from lbal.analyzers.models.model_files import is_file

        return [name for name in (self.step_model, self.power_model) if name is not None and is_file(name)]

    def arguments(self) -> list[str]:
        """The options as they were given, for a command line that is like this one."""
        found = [
            ("--step-model", self.step_model),
            *[("--rank-speed", speed) for speed in self.rank_speed],
            ("--power-model", self.power_model),
            ("--gpus-per-rank", None if self.gpus_per_rank is None else str(self.gpus_per_rank)),
            ("--costs", self.costs),
        ]
        return [text for flag, value in found if value is not None for text in (flag, value)]

    def check(self) -> None:
        """Refuse what cannot be before any work is done."""
        from lbal.analyzers.models.step_models import rank_speeds

        rank_speeds(self.rank_speed)
        self._costs()

    def energy_view(self, model: StepTimeModel) -> EnergyView:
        """How energy is told, for steps that take what this model says."""
        from lbal.analyzers.energy.power import EnergyView
        from lbal.analyzers.models.power_models import gpus_per_rank, power_model

        power, assumed = power_model(self.power_model, model)
        return EnergyView(
            power=power,
            gpus_per_rank=gpus_per_rank(self.gpus_per_rank, model),
            costs=self._costs(),
            assumed=assumed,
        )

    def _costs(self) -> Costs | None:
        if self.costs is None:
            return None
        from lbal.analyzers.models.costs import parse_costs

        return parse_costs(self.costs)
