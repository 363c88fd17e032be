"""The two cards in a run folder, which fully determine the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hepxai.cards import Card, dump_card, load_card
from hepxai.core.files import holds_only, write_text
from hepxai.datasets import DatasetCard
from hepxai.events.splits import ALL_FOLDS
from hepxai.models.card import ModelCard
from hepxai.models.wrappers.python_card import PythonCard
from hepxai.run.manifest import NAME as MANIFEST
from hepxai.run.manifest import Manifest, RunError
from hepxai.run.user_models import card_class, check_same_file

CARDS = ("dataset.yaml", "model.yaml")


@dataclass(frozen=True)
class RunCards:
    """Cards of a run, and those that its folder holds.

    Attributes
    ----------
    folder : Path
    dataset : DatasetCard
    model : ModelCard
    """

    folder: Path
    dataset: DatasetCard
    model: ModelCard

    @staticmethod
    def load(folder: Path) -> RunCards:
        """Cards in a run folder, after a check of all its files.

        Raises
        ------
        RunError
            If it is no run, or if a file is missing or was changed after the run wrote it.
        """
        manifest = Manifest(folder)
        if not manifest.exists():
            raise RunError(f"{folder} is no run folder; make one with `hepxai run`")
        manifest.verify()
        return RunCards._of(folder)

    @staticmethod
    def _of(folder: Path) -> RunCards:
        dataset, model = (folder / name for name in CARDS)
        return RunCards(folder, load_card(dataset, DatasetCard), load_card(model, card_class(folder)))

    def check(self) -> None:
        """Refuse cards that are not for a run."""
        if problem := self.model.incompatibility(tuple(self.dataset.labels), tuple(self.dataset.targets)):
            raise RunError(problem)
        if isinstance(self.model, PythonCard) and self.dataset.split.fold == ALL_FOLDS:
            raise RunError(
                "all folds need a training for each, and this model is trained already: leave split.fold: "
                "all (--folds) out"
            )

    def begin(self) -> None:
        """Write the cards to a new folder; a folder of a run must hold the same.

        Raises
        ------
        RunError
            If the folder holds something else, or a run of other cards.
        """
        manifest, texts = Manifest(self.folder), self._texts()
        if manifest.exists():
            manifest.verify()
            if not holds_only(self.folder, {}, [MANIFEST, *texts]):  # more than the cards of a refused run
                self._take_entries()
                self.check_same()
                return
        elif not holds_only(self.folder, texts, [MANIFEST]):
            raise RunError(
                f"{self.folder} exists and is no hepxai run; choose another folder or empty this one"
            )
        for name, text in texts.items():
            write_text(self.folder / name, text)
        manifest.record(*texts)

    def _take_entries(self) -> None:
        """Write a card that differs only in what no training depends on.

        These are its variations, and resolutions of particles that had none.
        """
        stored, given = RunCards._of(self.folder).dataset, self.dataset.particles
        particles = {
            name: p.model_copy(update={"resolutions": p.resolutions or given[name].resolutions})
            for name, p in stored.particles.items()
            if name in given
        }
        entries = {"variations": self.dataset.variations, "particles": particles}
        updated = stored.model_copy(update=entries)
        if stored != self.dataset and updated == self.dataset and stored.shift == self.dataset.shift:
            write_text(self.folder / CARDS[0], dump_card(self.dataset))
            Manifest(self.folder).record(CARDS[0])

    def check_same(self) -> None:
        """Refuse a folder with other cards."""
        stored = RunCards._of(self.folder)  # loaded: a key that was not there yet has its default
        self._need_equal("dataset.yaml", self.dataset, stored.dataset)
        self._need_equal("model.yaml", check_same_file(self.model, stored.model, self.folder), stored.model)

    def _need_equal(self, name: str, card: Card, stored: Card) -> None:
        here, there = dump_card(card), dump_card(stored)
        if here != there:
            lines = zip(there.splitlines(), here.splitlines(), strict=False)
            old, new = next(((a, b) for a, b in lines if a != b), ("less", "more"))
            text = f"{self.folder} holds a run with another {name}"
            raise RunError(f"{text} (there {old.strip()}, here {new.strip()}); choose another folder")

    def _texts(self) -> dict[str, str]:
        return dict(zip(CARDS, map(dump_card, (self.dataset, self.model)), strict=True))
