"""`llama3 plan`: how to put a model on many GPUs, before renting one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from llama3lib.cli.info import find_args

if TYPE_CHECKING:
    from llama3lib.model import ModelArgs
    from llama3lib.parallel.hardware import Hardware
    from llama3lib.parallel.planner import Plan as Found

_FIXED = ("tp", "cp", "pp", "stages", "sequences", "recompute", "reshard")
Number = Annotated[int | None, arg(metavar="INT")]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Layouts of a training step that fit, ranked by predicted time; nothing is started.

    `llama3 plan paper` predicts the three rows of Table 4.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A preset (8B, 70B, 405B, ...), a bundled checkpoint or a folder; or paper."""
    gpus: Number = None
    """How many there are."""
    sequence: int = 8192
    """Tokens of a sequence."""
    batch_tokens: Number = None
    """Tokens of a step: a multiple of the sequence."""
    memory: Annotated[float | None, arg(metavar="GB")] = None
    """Of each GPU, instead of the hardware file's; GB are 10^9 bytes."""
    hardware: Annotated[str | None, arg(metavar="FILE")] = None
    """TOML with chip, links, efficiencies, price; what it leaves out is the paper's cluster."""
    tokens: Annotated[float | None, arg(metavar="FLOAT")] = None
    """Of the whole run, for GPU-hours, energy, CO2 and cost."""
    price: Annotated[float | None, arg(metavar="FLOAT")] = None
    """Of a GPU-hour, instead of the hardware file's."""
    top: int = 10
    """How many layouts to show."""
    tp: Number = None
    """Only this tensor parallelism; also for those below."""
    cp: Number = None
    """Only this context parallelism."""
    pp: Number = None
    """Only so many pipeline ranks."""
    stages: Number = None
    """Only so many stages a pipeline rank (V)."""
    sequences: Number = None
    """Only so many sequences in a micro-batch."""
    recompute: Literal["none", "selective", "full"] | None = None
    """Only this: of blocks, nothing, all but products, or all is computed again."""
    reshard: bool = False
    """FSDP gives gathered weights up after use; the paper keeps them."""

    def run(self) -> int:
        """Print the layouts; returns the exit code.

        Raises ValueError for a wrong option, or if nothing fits.
        """
        from llama3lib.parallel.planner import search
        from llama3lib.utils.require import positive, require, whole

        hardware = self._hardware()
        if self.model == "paper":
            return _paper(hardware)
        for name in ("gpus", "batch_tokens"):
            require(getattr(self, name) is not None, name, None, "give it, as in --gpus 64")
        whole("top", self.top)
        if self.tokens is not None:
            positive("tokens", self.tokens)
        args = find_args(self.model)
        found = search(
            args,
            gpus=self.gpus,
            sequence=self.sequence,
            batch_tokens=self.batch_tokens,
            hardware=hardware,
            fixed={name: getattr(self, name) for name in _FIXED},
        )
        shown = found[: self.top]
        print(f"{len(found):,} layouts fit into {hardware.room / 1e9:g} GB; the fastest:")
        print(_table(shown, hardware))
        print(f"\nthe first of them:\n{_details(shown[0], hardware)}")
        if self.tokens is not None:
            print(_bill(args, shown[0], self.batch_tokens, self.tokens, hardware))
        print(_assumptions(hardware))
        return 0

    def _hardware(self) -> "Hardware":
        from dataclasses import replace

        from llama3lib.parallel.hardware import STANDARD, load_hardware

        hardware = load_hardware(self.hardware or STANDARD)
        changes = {"memory_gb": self.memory, "price_per_gpu_hour": self.price}
        return replace(hardware, **{n: v for n, v in changes.items() if v is not None})


def _table(plans: "Sequence[Found]", hardware: "Hardware") -> str:
    head = "  TP  CP  PP    DP   V  seq     M recompute  GB/GPU  bubble  TFLOPs   MFU  step s"
    lines = [head]
    for plan in plans:
        at, cost = plan.layout, plan.cost
        lines.append(
            f"{at.tp:4} {at.cp:3} {at.pp:3} {at.dp:5} {at.stages:3} {at.sequences:4} "
            f"{at.micro_batches:5} {at.recompute:9} {plan.memory.total / 1e9:7.1f} "
            f"{at.bubble:7.1%} {cost.tflops:7.0f} {cost.mfu(hardware):5.1%} {cost.seconds:7.3g}"
        )
    return "\n".join(lines)


def _details(plan: "Found", hardware: "Hardware") -> str:
    """Memory by part, time by part, traffic by link."""
    import dataclasses

    cost, memory = plan.cost, dataclasses.asdict(plan.memory)
    parts = [f"{name} {_gb(size)}" for name, size in memory.items() if size]
    lines = [f"GB on the GPU that needs most: {', '.join(parts)}"]
    lines.append(f"time of a step: {_shares(plan)}")
    for name, one in cost.traffic.items():
        if one.sent:
            lines.append(
                f"{name}, {one.link}: each GPU sends {one.sent / 1e9:,.3g} GB a step, "
                f"waits {one.waits:.3g} s"
            )
    return "\n".join(f"  {line}" for line in lines)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f}" if size > 1e8 else f"{size / 1e9:.2g}"


def _shares(plan: "Found") -> str:
    parts = {name: part / plan.cost.seconds for name, part in plan.cost.parts.items()}
    return ", ".join(f"{name} {part:.1%}" for name, part in parts.items() if part)


def _bill(
    args: "ModelArgs", plan: "Found", batch_tokens: int, tokens: float, hardware: "Hardware"
) -> str:
    """GPU-hours, energy, CO2 and cost of a run; held against the model card where it has them."""
    from llama3lib.model import get_preset
    from llama3lib.paper.infrastructure import GPU_HOURS
    from llama3lib.parallel.cost import bill

    run = bill(plan.cost, batch_tokens, tokens, hardware)
    cost = f"{run.price:,.0f} at {hardware.price_per_gpu_hour:g} a GPU-hour"
    lines = [
        f"{tokens:.3g} tokens, {hardware.effective_time:.0%} of the time useful: "
        f"{run.days:,.1f} days, {run.gpu_hours:,.0f} GPU-hours",
        f"  {run.mwh:,.0f} MWh, {run.t_co2:,.0f} t CO2eq, "
        f"cost {cost if hardware.price_per_gpu_hour else 'unknown: give --price'}",
    ]
    for size, hours in GPU_HOURS.row("GPU-hours").items():
        if args == get_preset(size):
            lines.append(
                f"  the model card tells {hours:,} GPU-hours for the {size}, on all its tokens: "
                f"this is {run.gpu_hours / hours:.0%} of them"
            )
    return "\n".join(lines)


def _assumptions(hardware: "Hardware") -> str:
    from llama3lib.parallel.cost import ASSUMPTIONS

    chip = (
        f"{hardware.name}: {hardware.peak_tflops:g} TFLOPs, of which products reach "
        f"{hardware.product_efficiency:.0%} and attention {hardware.attention_efficiency:.0%}; "
        f"{hardware.server_gb_per_s:g} GB/s in a server of {hardware.gpus_per_server}, "
        f"{hardware.network_gb_per_s:g} between, at {hardware.link_efficiency:.0%}; "
        f"{hardware.memory_gb:g} GB of memory, {hardware.reserved_gb:g} kept free"
    )
    return "\n".join(
        ["assumed (the efficiencies are ours):", f"  {chip}"]
        + [f"  {line}" for line in ASSUMPTIONS]
    )


def _paper(hardware: "Hardware") -> int:
    """The rows of Table 4 as printed and as predicted."""
    from llama3lib.model import get_preset
    from llama3lib.paper.infrastructure import TABLE_4
    from llama3lib.parallel.planner import predict, table_4_layout

    args = get_preset("405B")
    print("Table 4: TFLOPs/GPU and MFU as printed, and as predicted with one set of assumptions")
    for name in TABLE_4.rows:
        layout, sequence = table_4_layout(name)
        plan = predict(args, layout, sequence, hardware)
        told = TABLE_4.row(name)
        print(f"\n{name}: TP {layout.tp}, CP {layout.cp}, PP {layout.pp}, DP {layout.dp}, ", end="")
        print(f"V {layout.stages}, M {layout.micro_batches}, bubble {layout.bubble:.1%}")
        print(f"  printed   {told['TFLOPs/GPU']:.0f}  {told['MFU']:.1%}")
        mfu = plan.cost.mfu(hardware)
        print(f"  predicted {plan.cost.tflops:.0f}  {mfu:.1%}  {plan.memory.total / 1e9:.1f} GB")
        print(f"  {_shares(plan)}")
    print("\nFrom 43 to 41 %: half the micro-batches for each replica, twice the bubble, as the")
    print("paper says. To 38 %: attention, whose scores are computed again backward, and the")
    print("gathers of keys and values; this explanation is ours, and so are the efficiencies.")
    print(_assumptions(hardware))
    return 0
