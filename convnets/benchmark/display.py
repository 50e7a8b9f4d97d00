"""Measurements as tables for the terminal."""


def format_measurement(found: dict) -> str:
    """What `measure` found."""
    rows = [("", "images/s", "(least - most)", "GFLOP/s", "of peak", "compile", "memory")]
    rows.append(_row("convnets", found))
    if "peer" in found:
        peer = found["peer"]
        form = f" ({peer['form']})" if peer["form"] else ""
        rows.append(_row(f"{peer['name']} {peer['version']}{form}", peer))
    lines = [_describe_workload(found), "", *_align(rows)]
    peak = found["peak_flops_per_second"] / 1e9
    lines.append(
        f"\npeak: {peak:,.0f} GFLOP/s in a large matrix product; the process held "
        f"{_bytes(found['process_peak_bytes'])} at most before the timing"
    )
    if "ratio" in found:
        least, most = min(found["ratio_repetitions"]), max(found["ratio_repetitions"])
        lines.append(
            f"ratio: {found['ratio']:.2f} ({least:.2f} - {most:.2f}), the median of "
            f"{len(found['ratio_repetitions'])} pairs"
        )
    if "profile" in found:
        timed = found["batch_size"] / found["images_per_second"]
        lines += ["", *_format_profile(found["profile"], timed)]
    return "\n".join(lines)


def format_memory(found: dict) -> str:
    """What `foretell` found."""
    memory = found["memory"]
    return "\n".join(
        [
            _describe_workload(found),
            f"needs {_bytes(memory['peak_bytes'])}: {_bytes(memory['fixed_bytes'])} and "
            f"{_bytes(memory['bytes_per_image'])} an image",
            f"there are {_bytes(memory['available_bytes'])}: the largest batch that fits is "
            f"{memory['largest_batch']:,}",
        ]
    )


def _describe_workload(found):
    image = "x".join(map(str, found["image_shape"]))
    library = f" (oneDNN {found['onednn']})" if "onednn" in found else ""
    return (
        f"{found['model']}, {found['mode']}, batches of {found['batch_size']} images {image}, "
        f"{found['precision']}, lowering {found['lowering']}{library}"
    )


def _row(name, figures):
    each = figures["images_per_second_repetitions"]
    seconds, memory = figures["compile_seconds"], figures["peak_bytes"]
    return (
        name,
        _rate(figures["images_per_second"]),
        f"({_rate(min(each))} - {_rate(max(each))})",
        f"{figures['flops_per_second'] / 1e9:,.1f}",
        f"{figures['share_of_peak']:.0%}",
        "" if seconds is None else f"{seconds:.1f} s",
        "" if memory is None else _bytes(memory),
    )


def _format_profile(profile, timed):
    rows = [("a step by kind of work", "ms", "share")]
    rest = profile["step_seconds"] - sum(profile["seconds"].values())
    for kind, seconds in {**profile["seconds"], "(nothing seen)": rest}.items():
        share = seconds / profile["step_seconds"]
        rows.append((kind.replace("_", " "), f"{1e3 * seconds:,.2f}", f"{share:.1%}"))
    rows.append(("total", f"{1e3 * profile['step_seconds']:,.2f}", ""))
    return [
        *_align(rows),
        f"\n{profile['steps']} steps were traced, and took {profile['step_seconds'] / timed:.2f} "
        f"times as long as timed ones; {profile['coverage']:.0%} of their time is known",
    ]


def _align(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        yield "  ".join(cells).rstrip()


def _rate(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _bytes(count):
    """A size in the unit that suits it: 1.5 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
