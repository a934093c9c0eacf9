"""How many samples were tried, and what became of them. Loaded also where there is no PyTorch."""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """The outcome of some samples.

    Attributes:
        name: of what was tried.
        samples: how many there were.
        agree: in how many of them value, dtype and all gradients are PyTorch's.
        otherwise: for each that our API refuses or says in another way, the reason.
        wrong: for each that disagrees, what was found.
    """

    name: str
    samples: int = 0
    agree: int = 0
    otherwise: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other):
        return Tally(
            self.name,
            self.samples + other.samples,
            self.agree + other.agree,
            self.otherwise + other.otherwise,
            self.wrong + other.wrong,
        )
