"""What serving and training share: the frozen retriever and the rewriter."""

from models import torchvision_shim

torchvision_shim.install()
