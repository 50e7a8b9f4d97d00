"""Images that fool a network, how many of a set do, and training against them.

Reference: Szegedy et al. 2014, "Intriguing properties of neural networks"; Goodfellow, Shlens,
Szegedy 2015, "Explaining and harnessing adversarial examples".
"""

from .boundaries import deepfool
from .figures import plot_attacks
from .gradient_sign import fast_gradient_sign, gradient_step, projected_gradient, random_signs
from .lbfgs import Found, lbfgs_attack
from .robustness import attacked_metrics, robust_accuracy
from .training import adversarial_classification, adversarial_loss
from .victim import as_function

__all__ = [
    "Found",
    "adversarial_classification",
    "adversarial_loss",
    "as_function",
    "attacked_metrics",
    "deepfool",
    "fast_gradient_sign",
    "gradient_step",
    "lbfgs_attack",
    "plot_attacks",
    "projected_gradient",
    "random_signs",
    "robust_accuracy",
]
