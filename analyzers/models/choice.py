"""From the names and numbers that choose models to the models: what `analyze` and `replay` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.energy.power import Costs, EnergyView
from lbal.analyzers.models.costs import parse_costs
from lbal.analyzers.models.model_files import is_file
from lbal.analyzers.models.power_models import gpus_per_rank, power_model
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL, named_step_model, rank_speeds, step_model


@dataclass(frozen=True)
class ModelChoice:
    """Which models are asked for; raises `UsageError` for speeds and costs that cannot be."""

    step_model: str | StepTimeModel | None = None
    """A name as `named_step_model` takes it, or a model; None for the one that suits the trace."""
    rank_speed: Sequence[str] = ()
    """`RANK=SPEED`, each."""
    power_model: str | None = None
    gpus_per_rank: int | None = None
    costs: str | None = None
    """`KEY=VALUE,…`, as `parse_costs` takes it."""

    def __post_init__(self) -> None:
        rank_speeds(self.rank_speed)
        self._costs()

    def check(self, max_num_seqs: int) -> None:
        """Refuse a name that is no step-time model, before a trace is read; what is in a file is read later."""
        if not self.files():
            self.given_step_model(max_num_seqs)

    def given_step_model(self, max_num_seqs: int) -> tuple[StepTimeModel | None, list[str]]:
        """The step-time model that was asked for, None if none was, and notes on it."""
        if self.step_model is None:
            return None, []
        if isinstance(self.step_model, StepTimeModel):
            return self.with_speeds(self.step_model), []
        model, notes = named_step_model(self.step_model, max_num_seqs)
        return self.with_speeds(model), notes

    def default_step_model(self, max_num_seqs: int) -> StepTimeModel:
        """The model that is taken where nothing else suggests one, without the speeds that were given."""
        return step_model(DEFAULT_STEP_MODEL, max_num_seqs)

    def with_speeds(self, model: StepTimeModel) -> StepTimeModel:
        """The model with the rank speeds that were given, beside those it has."""
        given = rank_speeds(self.rank_speed)
        return model.with_speeds({**dict(model.rank_speeds), **given}) if given else model

    def files(self) -> list[str]:
        """The names among them that can only be files, or that exist as files."""
        return [name for name in (self.step_model, self.power_model) if isinstance(name, str) and is_file(name)]

    def arguments(self) -> list[str]:
        """The choice as arguments of a command line that is like this one."""
        named = self.step_model.name if isinstance(self.step_model, StepTimeModel) else self.step_model
        found = [
            ("--step-model", named),
            *[("--rank-speed", speed) for speed in self.rank_speed],
            ("--power-model", self.power_model),
            ("--gpus-per-rank", None if self.gpus_per_rank is None else str(self.gpus_per_rank)),
            ("--costs", self.costs),
        ]
        return [text for flag, value in found if value is not None for text in (flag, value)]

    def energy_view(self, model: StepTimeModel) -> EnergyView:
        """How energy is told, for steps that take what this model says."""
        power, assumed = power_model(self.power_model, model)
        return EnergyView(
            power=power,
            gpus_per_rank=gpus_per_rank(self.gpus_per_rank, model),
            costs=self._costs(),
            assumed=assumed,
        )

    def _costs(self) -> Costs | None:
        return None if self.costs is None else parse_costs(self.costs)
