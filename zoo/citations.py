"""Where the methods and adversaries that ensembles are trained with were published."""

from smdguard.manifest import Objective

_ADP = "Pang, Xu, Du, Chen, Zhu: Improving Adversarial Robustness via Promoting Ensemble Diversity. ICML, 2019"
_GAL = (
    "Kariyappa, Qureshi: Improving Adversarial Robustness of Ensembles with Diversity Training. arXiv:1901.09981, 2019"
)
_DVERGE = (
    "Yang, Zhang, Dong, Inkawhich, Gardner, Touchet, Wilkes, Berry, Li: DVERGE: Diversifying Vulnerabilities for "
    "Enhanced Robust Generation of Ensembles. NeurIPS, 2020"
)
_SMD = (
    "Bogun, Kostadinov, Borth: Saliency Diversified Deep Ensemble for Robustness to Adversaries. "
    "AAAI-22 Workshop on Adversarial Machine Learning and Beyond, 2022, arXiv:2112.03615"
)
_PGD = (
    "Madry, Makelov, Schmidt, Tsipras, Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks. ICLR, 2018"
)
_EAT = (
    "Tramèr, Kurakin, Papernot, Goodfellow, Boneh, McDaniel: Ensemble Adversarial Training: Attacks and Defenses. "
    "ICLR, 2018"
)
# Where a method and an adversary were published; of the undefended ensembles there is nothing to cite.
_REFERENCES = {
    "adp": (_ADP,),
    "gal": (_GAL,),
    "dverge": (_DVERGE,),
    "smd": (_SMD,),
    "smd-plus": (_SMD, _DVERGE),
    "pgd": (_PGD,),
    "eat": (_EAT,),
}


def citation_of(objective: Objective) -> str:
    """Where the method that a model was trained with was published; nothing where it is undefended."""
    adversary = str((objective.adversarial_training or {}).get("adversary", ""))
    return "; ".join(reference for name in (objective.name, adversary) for reference in _REFERENCES.get(name, ()))
