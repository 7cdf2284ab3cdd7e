"""Score-based autoencoders: representation learning with diffusion models, every model under one bound.

The public face. Every other module is exported from the notebook of the same name in `nbs/`; this one is written by hand.
"""

__version__ = "0.1.0"

from scoreae import data
from scoreae.autoencoder import Autoencoder, Delta
from scoreae.baselines import AE, PCA, TCVAE, VAE, RandomEncoder
from scoreae.bounds import Bound
from scoreae.dbae import DBAE
from scoreae.diffae import DiffAE
from scoreae.evaluation import evaluate
from scoreae.foreign import from_diffusers
from scoreae.interop import Encoder, export_encoder, from_hub, to_diffusers, to_hub
from scoreae.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.priors import DiffusionPrior, GaussianPrior, fit_latent
from scoreae.sami import SAMI
from scoreae.semantics import axes
from scoreae.training import fit
from scoreae.zoo import MODELS, VARIANTS, load, make

__all__ = [
    "AE",
    "DBAE",
    "MODELS",
    "PCA",
    "SAMI",
    "TCVAE",
    "VAE",
    "VARIANTS",
    "VE",
    "Autoencoder",
    "Bound",
    "Delta",
    "DiffAE",
    "DiffusionPrior",
    "Encoder",
    "GaussianPrior",
    "Pinned",
    "RandomEncoder",
    "VPCosine",
    "VPLinear",
    "axes",
    "data",
    "evaluate",
    "export_encoder",
    "fit",
    "fit_latent",
    "from_diffusers",
    "from_hub",
    "load",
    "make",
    "to_diffusers",
    "to_hub",
]
