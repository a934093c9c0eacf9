"""At the end of a run: how many of PyTorch's samples each operation agrees with, and why the others were not asked."""

from collections import Counter

from tests.oracle.tally import Tally


def pytest_terminal_summary(terminalreporter):
    tallies, absent = {}, set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in report.user_properties if getattr(report, "when", None) == "call" else ():
                if key == "oracle tally":
                    tally = Tally(**value)
                    tallies[tally.name] = tallies[tally.name] + tally if tally.name in tallies else tally
                elif key == "oracle: not here yet":
                    absent.add(value)
    if not tallies:
        return
    whole = sum(tallies.values(), Tally("all"))
    write = terminalreporter.write_line
    terminalreporter.section("PyTorch's samples")
    for name, tally in sorted(tallies.items()):
        reasons = "; ".join(f"{count} × {reason}" for reason, count in Counter(tally.otherwise).items())
        write(f"{name:<32} {tally.agree:>5} of {tally.samples:>5}  {reasons}".rstrip())
    write(f"{whole.name:<32} {whole.agree:>5} of {whole.samples:>5}  {len(whole.otherwise)} are said otherwise here")
    if absent:
        write(f"{len(absent)} rows of the map are not here yet: {', '.join(sorted(absent))}")
