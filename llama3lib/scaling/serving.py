"""Train once, serve many: the cheapest model for its whole life is smaller than the best to train.

The paper's small models are trained far beyond the optimum of its law: the 8B has 1,875 tokens a
parameter, where the 405B has 38.5 (§3.2.1; the sums here are ours).
Training costs 6 FLOPs for each parameter and token, serving 2.
"""

import math
from dataclasses import dataclass

from llama3lib.scaling.parametric import ParametricLaw
from llama3lib.utils.require import positive, require


@dataclass(frozen=True)
class Life:
    """A model and what it costs, in FLOPs."""

    parameters: float
    tokens: float
    training: float
    serving: float

    @property
    def total(self) -> float:
        return self.training + self.serving


def life(parameters: float, tokens: float, served: float) -> Life:
    """Cost of training on `tokens` and then reading or writing `served` tokens.

    Raises ValueError unless parameters and tokens are above 0 and served is 0 or more.
    """
    for name, value in (("parameters", parameters), ("tokens", tokens)):
        positive(name, value)
    require(math.isfinite(served) and served >= 0, "served", served, "a finite number, 0 or more")
    return Life(parameters, tokens, 6 * parameters * tokens, 2 * parameters * served)


def break_even(first: Life, second: Life) -> float:
    """Served tokens from which on `first` is the cheaper one, whatever the two served so far.

    0 if it is from the start, infinite if it never is.
    """
    ahead = first.training - second.training
    if ahead <= 0:
        return 0.0 if first.parameters <= second.parameters else math.inf
    saved = 2 * (second.parameters - first.parameters)
    return ahead / saved if saved > 0 else math.inf


def tokens_for(law: ParametricLaw, parameters: float, loss: float) -> float:
    """Tokens that a model of this size needs to reach a loss; infinite if it never does.

    Raises ValueError if a number is not above 0, or an exponent of the law is not.
    """
    for name, value in (("parameters", parameters), ("loss", loss)):
        positive(name, value)
    _check_law(law)
    room = loss - law.E - math.exp(math.log(law.A) - law.alpha * math.log(parameters))
    if room <= 0:
        return math.inf
    return math.exp((math.log(law.B) - math.log(room)) / law.beta)


def cheapest(law: ParametricLaw, loss: float, served: float) -> Life:
    """Of all models that reach a loss, the one that costs least with so many tokens served.

    Raises ValueError if no model reaches the loss (it is not above the law's E), if it asks for
    sizes beyond all measure, or as `tokens_for` and `life`.
    """
    _check_law(law)
    ok = math.isfinite(loss) and loss > law.E
    require(ok, "loss", loss, f"above {law.E}, which no model passes")
    require(math.isfinite(served) and served >= 0, "served", served, "a finite number, 0 or more")
    from scipy.optimize import minimize_scalar

    least = (math.log(law.A) - math.log(loss - law.E)) / law.alpha  # with endless tokens

    def cost(above: float) -> float:
        size = least + math.exp(above)
        if size > 600:
            return 1e6
        tokens = tokens_for(law, math.exp(size), loss)
        if not math.isfinite(tokens):
            return 1e6
        return size + math.log(6 * tokens + 2 * served)  # ln of the whole cost: no overflow

    found = minimize_scalar(cost, bounds=(-15.0, 4.0), method="bounded", options={"xatol": 1e-10})
    require(found.fun < 1e5, "loss", loss, f"so near {law.E} no size can be told")
    parameters = math.exp(least + math.exp(float(found.x)))
    return life(parameters, tokens_for(law, parameters, loss), served)


def _check_law(law: ParametricLaw) -> None:
    if not (law.alpha > 0 and law.beta > 0):
        raise ValueError(
            f"law.alpha={law.alpha}, law.beta={law.beta} are not allowed: both must be above 0"
        )
