"""Chips and links as a small TOML file that may be replaced by one's own."""

from dataclasses import dataclass
from pathlib import Path

from llama3lib.utils.require import at_least, between, positive, whole
from llama3lib.utils.settings import build, read_toml

STANDARD = Path(__file__).parent.parent / "assets" / "hardware" / "h100.toml"
_SHARES = ("product_efficiency", "attention_efficiency", "link_efficiency", "effective_time")


@dataclass(frozen=True, kw_only=True)
class Link:
    """What joins GPUs: bytes a second that one of them sends one way, seconds for each hop."""

    name: str
    bytes_per_second: float
    latency: float


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The machine that a plan is made for; `h100.toml` says what each number is.

    Raises ValueError naming the field, its value and what is allowed.
    """

    name: str
    peak_tflops: float
    memory_gb: float
    reserved_gb: float
    watts: float
    gpus_per_server: int
    server_gb_per_s: float
    server_latency_us: float
    network_gb_per_s: float
    network_latency_us: float
    product_efficiency: float
    attention_efficiency: float
    link_efficiency: float
    effective_time: float
    power_overhead: float
    t_co2_per_mwh: float
    price_per_gpu_hour: float

    def __post_init__(self) -> None:
        for name in ("peak_tflops", "memory_gb", "watts", "server_gb_per_s", "network_gb_per_s"):
            positive(name, getattr(self, name))
        for name in _SHARES:
            positive(name, getattr(self, name))
            between(name, getattr(self, name), 0, 1)
        for name in ("server_latency_us", "network_latency_us", "t_co2_per_mwh"):
            at_least(name, getattr(self, name), 0)
        at_least("price_per_gpu_hour", self.price_per_gpu_hour, 0)
        at_least("power_overhead", self.power_overhead, 1)
        between("reserved_gb", self.reserved_gb, 0, self.memory_gb)
        whole("gpus_per_server", self.gpus_per_server)

    @property
    def room(self) -> float:
        """Bytes that a plan may use on each GPU."""
        return (self.memory_gb - self.reserved_gb) * 1e9

    def link(self, reach: int) -> Link:
        """What joins a group whose ranks lie within `reach` neighbours: a server, or the network.

        Part inside and part outside goes at the speed of the slower one.
        """
        kind = "server" if reach <= self.gpus_per_server else "network"
        return Link(
            name=kind,
            bytes_per_second=getattr(self, f"{kind}_gb_per_s") * 1e9 * self.link_efficiency,
            latency=getattr(self, f"{kind}_latency_us") * 1e-6,
        )


def load_hardware(path: str | Path = STANDARD) -> Hardware:
    """Hardware of a file; what the file leaves out is as in `h100.toml`.

    Raises ValueError for a file that cannot be read, a name that is not known, a wrong value.
    """
    table = read_toml(path, "hardware")
    return build(Hardware, read_toml(STANDARD, "hardware") | table, Path(path).name)
