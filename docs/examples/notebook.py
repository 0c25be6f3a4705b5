# %% [markdown]
# # Search for a layer of your own network, in a notebook
#
# The cells run as a script too: `python docs/examples/notebook.py`. Open it as a notebook with
# jupytext, or paste the cells.

# %%
import os

from torch import nn

import evosearch as es

SMALL = os.environ.get("EVOSEARCH_EXAMPLE") == "small"


# %% [markdown]
# A network of yours, built around `layer`. The data are evosearch's own here (`polarity-digits`);
# a class with `data`, `loss` and `evaluate` brings yours, see `tabular_mlp.py`.


# %%
@es.evaluator("toy", objectives=[es.Objective("spread", "min")], baselines=["bn-relu"])
def toy(layer, ctx):
    import torch

    net = nn.Sequential(nn.Conv2d(1, 8, 3), layer(8), nn.Conv2d(8, 8, 3), layer(8))
    x = torch.randn(16, 1, 12, 12, generator=ctx.generator)
    y = net(x * torch.logspace(-1, 1, 16)[:, None, None, None]).std(dim=(1, 2, 3))
    return {"spread": (y.log().std()).item()}


# %% [markdown]
# Progress shows below the cell. Interrupt the kernel to pause; run the cell again to go on.

# %%
run = es.search(
    ["toy"], budget=6 if SMALL else 60, pool="inline", where="live_nodes <= 6",
    start_from=["gn-relu"], confirm=False,
)  # fmt: skip
run

# %%
figure = es.plot.front(run)
figure

# %%
run.leader

# %%
print(run.table())
print(run.leader.explain())
es.plot.gain(run, x="live_nodes"), es.plot.progress(run), es.plot.funnel(run)
