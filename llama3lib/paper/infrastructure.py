"""The machine: hardware, parallelism, interruptions (§3.3, Tables 4 and 5)."""

from llama3lib.paper.facts import Fact, Table

GPUS = Fact(16_384, "H100 GPUs", "§3.3.1", note='printed as "up to 16K"')
GPU_POWER = Fact(700, "W", "§3.3.1")
GPU_MEMORY = Fact(80, "GB", "§3.3.1", note="HBM3")
GPUS_PER_SERVER = Fact(8, "GPUs", "§3.3.1", note="linked by NVLink")
GPUS_PER_RACK = Fact(16, "GPUs", "§3.3.1")
RACKS_PER_POD = Fact(192, "racks", "§3.3.1")
PODS = Fact(8, "pods", "§3.3.1")
OVERSUBSCRIPTION = Fact("1:7", "", "§3.3.1", note="above the pods")
SERVER = Fact("Grand Teton", "", "§3.3.1")
CPUS_PER_SERVER = Fact(2, "CPUs", "§3.3.1")
SCHEDULER = Fact("MAST", "", "§3.3.1")
GPUS_PER_POD = Fact(3072, "GPUs", "§3.3.1", note="full bisection bandwidth")
CLUSTER_GPUS = Fact(24_576, "GPUs", "§3.3.1", note='"24K"; at most 16K were used')
CLUSTER_LAYERS = Fact(3, "layers of a Clos network", "§3.3.1")
FLOWS = Fact(16, "flows for each pair of GPUs", "§3.3.1", note="instead of 1, to spread the load")
CONGESTION = Fact("deep buffers in the spine; no DCQCN needed", "", "§3.3.1")
NETWORK_405B = Fact("RoCE", "", "§3.3.1")
NETWORK_SMALLER = Fact("InfiniBand", "", "§3.3.1")
LINK_SPEED = Fact(400, "Gbps per GPU", "§3.3.1")
STORAGE = Fact(240, "PB", "§3.3.1", note="on 7,500 servers")
STORAGE_SPEED = Fact((2, 7), "TB/s, sustained and peak", "§3.3.1")
STORAGE_SERVERS = Fact(7500, "servers", "§3.3.1", note="with SSDs; the system is Tectonic")
CHECKPOINT_SIZE = Fact((1_000_000, 4_000_000_000), "bytes per GPU, least and most", "§3.3.1")
STORAGE_PER_SERVER = Fact(32, "TB", "from §3.3.1", "computed", "240 PB / 7,500")
CHECKPOINT_TOTAL = Fact(65.5, "TB", "from §3.3.1", "computed", "16,384 · 4 GB, the largest")
CHECKPOINT_SECONDS = Fact(
    (33, 9.4), "s, at 2 and at 7 TB/s", "from §3.3.1", "computed", "to write 65.5 TB"
)
GPUS_POWER = Fact(11.5, "MW", "from §3.3.1", "computed", "16,384 · 700 W")
BF16_PEAK = Fact(989.4, "TFLOPs per GPU", "data sheet of the H100", "computed")

TABLE_4 = Table(
    title="Scaling configurations and MFU",
    section="§3.3.2, Table 4",
    columns=(
        "GPUs",
        "TP",
        "CP",
        "PP",
        "DP",
        "sequence",
        "batch/DP",
        "tokens/batch",
        "TFLOPs/GPU",
        "MFU",
    ),
    rows={
        "8K sequences, 8,192 GPUs": (8192, 8, 1, 16, 64, 8192, 32, 16_000_000, 430, 0.43),
        "8K sequences, 16,384 GPUs": (16_384, 8, 1, 16, 128, 8192, 16, 16_000_000, 400, 0.41),
        "128K sequences": (16_384, 8, 16, 16, 8, 131_072, 16, 16_000_000, 380, 0.38),
    },
    reliability="paper v3",
)
TABLE_4_ROW_3_DP_EARLY = Fact(
    4, "DP", "§3.3.2, Table 4", "paper v1", "the product of the four is then 8,192 of 16,384 GPUs"
)
TABLE_4_PEAK_SHARE = Table(
    title="Table 4 against the peak of 989.4 TFLOPs, in per cent",
    section="from §3.3.2, Table 4",
    columns=("TFLOPs/989.4", "printed MFU"),
    rows={
        "8K sequences, 8,192 GPUs": (43.5, 43),
        "8K sequences, 16,384 GPUs": (40.4, 41),
        "128K sequences": (38.4, 38),
    },
    reliability="computed",
    note="400 TFLOPs is itself rounded: 41 % would be 406.",
)
ORDER = Fact(("TP", "CP", "PP", "DP"), "", "§3.3.2", note="innermost first")
BUBBLE = Fact("(PP - 1) / (V · M)", "of the useful time", "§3.3.2")
BUBBLES = Table(
    title="Bubble over useful time with PP = 16",
    section="from §3.3.2",
    columns=("V", "M", "bubble"),
    rows={
        "V=1, M=16": (1, 16, 0.94),
        "V=1, M=32": (1, 32, 0.47),
        "V=4, M=16": (4, 16, 0.23),
        "V=8, M=16": (8, 16, 0.12),
        "V=8, M=32": (8, 32, 0.059),
    },
    reliability="computed",
    note="V (stages per rank) and M (micro-batches) are examples: the paper does not give V.",
)
END_CHUNKS = Fact(
    ("the embedding alone", "the output matrix and the loss alone"),
    "in the first and in the last model chunk",
    "§3.3.2",
    note="one layer fewer in each of the two, to balance the pipeline",
)
STAGES_PER_RANK = Fact(
    8,
    "stages per pipeline rank (V)",
    "from §3.3.2, Table 4",
    "computed",
    "not printed; end chunks without a layer mean one layer in every other: (126 + 2) / PP 16",
)
CP_GATHER = Fact(
    "the all-gather of keys and values waits in the critical path",
    "",
    "§3.3.2",
    note="small, for grouped queries leave few keys and values",
)
CONTIGUOUS_SPLIT = Fact(
    31, "times the work of the first rank", "from §3.3.2", "computed", "last of 16 equal pieces"
)
WEIGHTS_PER_GPU = Fact(6.34, "GB", "from §3.3.2", "computed", "405.85B/128 in bfloat16, TP8 · PP16")

TABLE_5 = Table(
    title="Causes of unexpected interruptions in 54 days",
    section="§3.3.4, Table 5",
    columns=("category", "count", "printed %"),
    rows={
        "Faulty GPU": ("GPU", 148, 30.1),
        "GPU HBM3 memory": ("GPU", 72, 17.2),
        "Software bug": ("Dependency", 54, 12.9),
        "Network switch/cable": ("Network", 35, 8.4),
        "Host maintenance": ("Unplanned maintenance", 32, 7.6),
        "GPU SRAM memory": ("GPU", 19, 4.5),
        "GPU system processor": ("GPU", 17, 4.1),
        "NIC": ("Host", 7, 1.7),
        "NCCL watchdog timeouts": ("Unknown", 7, 1.7),
        "Silent data corruption": ("GPU", 6, 1.4),
        "GPU thermal interface + sensor": ("GPU", 6, 1.4),
        "SSD": ("Host", 3, 0.7),
        "Power supply": ("Host", 3, 0.7),
        "Server chassis": ("Host", 2, 0.5),
        "IO expansion board": ("Host", 2, 0.5),
        "Dependency": ("Dependency", 2, 0.5),
        "CPU": ("Host", 2, 0.5),
        "System memory": ("Host", 2, 0.5),
    },
    note="148 of 419 is 35.3 %, not 30.1; the printed shares sum to 94.9. Plot the counts.",
)
TABLE_5_BY_COUNT = Table(
    title="Table 5 again: shares by the counts, in per cent of 419",
    section="from §3.3.4, Table 5",
    columns=("count/419",),
    rows={
        "Faulty GPU": (35.3,),
        "GPU HBM3 memory": (17.2,),
        "Software bug": (12.9,),
        "Network switch/cable": (8.4,),
        "Host maintenance": (7.6,),
        "GPU SRAM memory": (4.5,),
        "GPU system processor": (4.1,),
        "NIC": (1.7,),
        "NCCL watchdog timeouts": (1.7,),
        "Silent data corruption": (1.4,),
        "GPU thermal interface + sensor": (1.4,),
        "SSD": (0.7,),
        "Power supply": (0.7,),
        "Server chassis": (0.5,),
        "IO expansion board": (0.5,),
        "Dependency": (0.5,),
        "CPU": (0.5,),
        "System memory": (0.5,),
    },
    reliability="computed",
)
TABLE_5_CATEGORIES = Table(
    title="Table 5 by category",
    section="from §3.3.4, Table 5",
    columns=("count", "count %", "printed %"),
    rows={
        "GPU": (268, 64.0, 58.7),
        "Dependency": (56, 13.4, 13.4),
        "Network": (35, 8.4, 8.4),
        "Unplanned maintenance": (32, 7.6, 7.6),
        "Host": (21, 5.0, 5.1),
        "Unknown": (7, 1.7, 1.7),
    },
    reliability="computed",
)
TABLE_5_PRINTED_SUM = Fact(94.9, "per cent", "from §3.3.4, Table 5", "computed", "not 100")
INTERRUPTIONS = Fact(466, "interruptions", "§3.3.4")
PLANNED = Fact(47, "interruptions", "§3.3.4")
UNEXPECTED = Fact(419, "interruptions", "§3.3.4")
SNAPSHOT = Fact(54, "days", "§3.3.4", note="a window of observation, not the training time")
EFFECTIVE_TIME = Fact(0.90, "of the time, more than", "§3.3.4")
MANUAL = Fact(3, "major interventions by hand", "§3.3.4")
HARDWARE_SHARE = Fact(0.78, "of the unexpected ones, about", "§3.3.4")
GPU_SHARE_PRINTED = Fact(0.587, "of the unexpected ones", "§3.3.4")
DIURNAL = Fact((0.01, 0.02), "of throughput, with the heat of the day", "§3.3.4")
CHECKPOINT_AIM = Fact(
    "short pauses of the GPUs and frequent checkpoints",
    "",
    "§3.3.1",
    note="neither is given in minutes",
)
POWER_SWINGS = Fact("tens of megawatts", "", "§3.3.4", note="when all GPUs stop or start at once")

_RATES = "from §3.3.4"
HOURS_BETWEEN_UNEXPECTED = Fact(3.09, "hours", _RATES, "computed", "54 days / 419")
HOURS_BETWEEN_ANY = Fact(2.78, "hours", _RATES, "computed", "54 days / 466")
UNEXPECTED_PER_DAY = Fact(7.8, "per day", _RATES, "computed")
GPU_ISSUES_PER_DAY = Fact(5.0, "per day", _RATES, "computed", "the category GPU of Table 5")
NETWORK_ISSUES_PER_DAY = Fact(0.65, "per day", _RATES, "computed")
YEARS_PER_GPU = Fact(5.8, "years", _RATES, "computed", "between unexpected stops of one GPU")
LOSS_PER_INTERRUPTION = Fact(
    16.7, "minutes, at most", _RATES, "computed", "10 % of the time over 466 interruptions"
)
CHECKPOINT_EVERY = Fact(
    27, "minutes, about", _RATES, "computed", "Young's rule for a checkpoint that takes 2 minutes"
)

GPU_HOURS = Table(
    title="GPU-hours of training",
    section="Llama 3.1 model card",
    columns=("8B", "70B", "405B"),
    rows={"GPU-hours": (1_460_000, 7_000_000, 30_840_000)},
    reliability="card",
)
GPU_HOURS_TOTAL = Fact(39_300_000, "GPU-hours", "Llama 3.1 model card", "card")
CO2 = Fact(11_390, "t CO2eq", "Llama 3.1 model card", "card", "by location, all three")
CO2_PER_MWH = Fact(
    0.4137, "t CO2eq", "from the Llama 3.1 model card", "computed", "8,930 t / (30.84M h · 700 W)"
)
CO2_405B = Fact(8930, "t CO2eq", "Llama 3.1 model card", "card", "by location")

_COST = "from §1, §3.3 and the Llama 3.1 model card"
DAYS_OF_405B = Fact(78.4, "days on 16,384 GPUs", _COST, "computed", "30.84M GPU-hours")
MEAN_SPEED_OF_405B = Fact(
    342, "TFLOPs per GPU", _COST, "computed", "over all hours; 34.6 % of 989.4"
)
DAYS_AT_400 = Fact(67.1, "days", _COST, "computed", "3.8e25 FLOPs at a steady 400 TFLOPs per GPU")
FLOPS_IN_SNAPSHOT = Fact(
    3.06e25, "FLOPs", _COST, "computed", "54 days at 400 TFLOPs: 80 % of 3.8e25"
)
