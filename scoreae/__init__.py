"""Score-based autoencoders: representation learning with diffusion models, every model under one bound.

The public face, written by hand. Every other module is exported from the notebook of its name: `scoreae.models.sami`, say,
from `nbs/models/14_sami.ipynb`.
"""

__version__ = "0.1.0"

from scoreae.images import sets as data
from scoreae.models.contract import Autoencoder, Delta
from scoreae.models.baselines import AE, PCA, TCVAE, VAE, RandomEncoder
from scoreae.foundations.bounds import Bound
from scoreae.models.dbae import DBAE
from scoreae.models.diffae import DiffAE
from scoreae.measures.evaluation import evaluate
from scoreae.models.pretrained import from_diffusers
from scoreae.use.elsewhere import Encoder, export_encoder, from_hub, to_diffusers, to_hub
from scoreae.foundations.paths import VE, Pinned, VPCosine, VPLinear
from scoreae.models.priors import DiffusionPrior, GaussianPrior, fit_latent
from scoreae.models.sami import SAMI
from scoreae.use.guidance import axes
from scoreae.use.training import fit
from scoreae.models.zoo import MODELS, VARIANTS, load, make

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
