"""The table, the aims, and the files for the README."""

import json
import shutil
import statistics
import subprocess

# Ours divided by the peer with its check, at most. From the goals in Specs/performance.md.
AIMS = {
    "A": {"rsync": 0.60, "rclone": 0.40}, "B": {"rsync": 0.80, "rclone": 0.03}, "C": {"rsync": 0.80, "rclone": 0.25},
    "D": {"rsync": 0.90, "rclone": 0.03}, "E": {"rsync": 1.0, "rclone": 0.10}, "A10": {"rsync": 0.95, "rclone": 0.8},
    "A50": {"rsync": 0.55, "rclone": 0.8}, "B10": {"rsync": 0.70, "rclone": 0.05}, "B50": {"rsync": 0.70, "rclone": 0.05},
}  # fmt: skip
PEAK = {"A": 120, "B": 120, "C": 120, "D": 150}


def _median(rows, key):
    return statistics.median(row[key] for row in rows)


def _span(rows, key):
    values = [row[key] for row in rows]
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else f"{values[0]:.2f} (once)"


def print_limits(limits):
    """What the machine can do."""
    rates = ", ".join(f"{name} {value} MB/s" for name, value in limits.items() if name not in ("cores", "processor", "kernel"))
    print(f"{limits['cores']} cores of {limits['processor']}: {rates}", flush=True)


def print_workload(name, rows):
    """One line for each program."""
    print(f"\n{name:5}{'program':11}{'wall s':>23}{'push s':>23}{'cpu s':>9}{'server s':>10}{'peak MB':>9}{'MB moved':>10}   ours/its")
    ours = _median(rows["nassync"], "wall")
    for program, measured in rows.items():
        ratio = "" if program == "nassync" else f"{ours / _median(measured, 'wall'):10.3f}"
        print(
            f"{name:5}{program:11}{_span(measured, 'wall'):>23}{_span(measured, 'push'):>23}{_median(measured, 'cpu'):9.2f}"
            f"{_median(measured, 'server'):10.2f}{max(row['peak'] for row in measured):9.0f}{_median(measured, 'bytes') / 1e6:10.1f} {ratio}",
            flush=True)


def aims(results):
    """[(what, figure, aim, whether met)]."""
    found = []
    for name, rows in results.items():
        ours = _median(rows["nassync"], "wall")
        for peer, most in AIMS.get(name, {}).items():
            if rows.get(peer):
                ratio = ours / _median(rows[peer], "wall")
                found.append((f"{name} against {peer}", ratio, most, ratio <= most))
        if name == "A" and rows.get("sftp"):
            ratio = _median(rows["nassync"], "push") / _median(rows["sftp"], "push")
            found.append(("A, push alone, against sftp put", ratio, 1.0, ratio <= 1))
        if name in PEAK:
            peak = max(row["peak"] for row in rows["nassync"])
            found.append((f"{name}, peak memory, MB", peak, PEAK[name], peak <= PEAK[name]))
        if name in ("A10", "A50"):
            # 256 MiB at 1 Gbit/s.
            share = (256 << 20) / 125e6 / _median(rows["nassync"], "push")
            least = 0.9 if name == "A10" else 0.7
            found.append((f"{name}, push, share of the line (at least)", share, least, share >= least))
    return found


def print_aims(results):
    """Each aim with what became of it."""
    print()
    for what, figure, aim, met in aims(results):
        print(f"{what:45} {figure:8.3f}   aim {aim:<6} {'met' if met else 'MISSED'}")


def write(folder, limits, results, options):
    """bench.json, and bench.svg with the ratios where gnuplot is there."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "rounds": options.rounds, "ssh": options.ssh, "short": options.short, "machine": limits,
        "workloads": {
            name: {
                program: {
                    key: {"median": _median(measured, key), "min": min(row[key] for row in measured), "max": max(row[key] for row in measured)}
                    for key in ("wall", "push", "cpu", "server", "peak", "bytes")
                } | {"rounds": len(measured)}
                for program, measured in rows.items()
            }
            for name, rows in results.items()
        },
        "aims": [{"what": what, "figure": figure, "aim": aim, "met": met} for what, figure, aim, met in aims(results)],
    }  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    if not shutil.which("gnuplot"):
        print("gnuplot is not installed, so there is no plot")
        return
    subprocess.run(["gnuplot", "-"], input=_plot(folder / "bench.svg", results), text=True, check=True)


def _plot(path, results):
    """Seconds of each program by workload, as bars on a logarithmic scale; a figure of a push alone where there is no check."""
    programs = []
    for rows in results.values():
        programs += [program for program in rows if program not in programs]
    table = ["workload " + " ".join(f'"{program}"' for program in programs)]
    for name, rows in results.items():
        table.append(name + " " + " ".join(f"{_median(rows[program], 'wall'):.3f}" if rows.get(program) else "NaN" for program in programs))
    data = "\n".join(table)
    bars = ", ".join(
        f"$data using {number + 2}:xtic(1) title {json.dumps(program + (' + check' if program in ('rsync', 'rclone') else ''))}"
        for number, program in enumerate(programs))
    return (
        f"$data << EOD\n{data}\nEOD\nset terminal svg size 900,420 dynamic background rgb 'white' font 'sans-serif,12'\nset output {json.dumps(str(path))}\n"
        "set style data histograms\nset style histogram clustered gap 1\nset style fill solid 0.9 noborder\nset boxwidth 0.9\n"
        "set key autotitle columnhead outside right top\nset logscale y\nset ylabel 'seconds to done (less is better)'\nset grid ytics\n"
        f"set datafile missing 'NaN'\nplot {bars}\n")
