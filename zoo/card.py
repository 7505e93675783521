"""Model cards, generated from entries and never edited by hand."""

from collections.abc import Mapping
from typing import Any

import jinja2

from smdguard.manifest import WORST_CASE, ManifestEntry, ModelConfig
from smdguard.report import SuspicionReport
from smdguard.wording import percent
from zoo.preview import is_preview, usual_recipe

_TEMPLATE = jinja2.Template(
    """\
---
license: {{ entry.license }}
library_name: smdguard
pipeline_tag: image-classification
tags: [adversarial-robustness, ensemble, {{ entry.objective.name }}]
datasets: [{{ dataset }}]
model-index:
- name: {{ entry.name }}
  results:
  - task: {type: image-classification}
    dataset: {name: {{ dataset }}, type: {{ dataset }}, split: test}
    metrics:
    - {type: accuracy, name: clean accuracy, value: {{ "%.4f" | format(config.clean_accuracy) }}}
    - {type: accuracy, name: "worst-case accuracy, {{ worst.threat.norm }} {{ "%.4g" | format(worst.threat.epsilon) }}",
       value: {{ "%.4f" | format(worst.robust_accuracy) }}}
---
# {{ entry.name }}

{{ entry.architecture.num_members }} members of the architecture `{{ entry.architecture.name }}`, trained on \
{{ dataset }} with the objective `{{ entry.objective.name }}`; they answer with the average of their probabilities.
{%- if usual_num_epochs %}

**A preview.** It was trained for {{ entry.training.num_epochs }} epochs, where the recipe has \
{{ usual_num_epochs }}: its figures are those of this model, and say little about the method.
{%- endif %}

**Verdict of the audit: {{ entry.verdict }}.** Of {{ worst.num_images }} test images the ensemble gets \
{{ percent(worst.clean_accuracy) }} right, and {{ percent(worst.robust_accuracy) }} in the worst case at \
{{ worst.threat.norm }} {{ "%.4g" | format(worst.threat.epsilon) }}, where an image counts as right only if it \
withstood every one of the attacks below; so no attack's figure is lower.

| radius | worst-case accuracy |
| ---: | ---: |
{% for evaluation in entry.curve -%}
| {{ "%.4g" | format(evaluation.threat.epsilon) }} | {{ percent(evaluation.robust_accuracy) }} |
{% endfor %}
| attack at {{ "%.4g" | format(worst.threat.epsilon) }} | accuracy |
| --- | ---: |
{% for evaluation in attacks -%}
| {{ evaluation.attack }}{% if evaluation.num_attacked %}, on the {{ evaluation.num_attacked }} still standing\
{% endif %} | {{ percent(evaluation.robust_accuracy) }} |
{% endfor %}
"From" names the model that a transferred attack was crafted on. Where a transferred attack leaves fewer images \
standing than the same attack crafted on this model, the model's gradients mislead the attack: do not take the higher \
figure for robustness. The whole audit is in `audit.json`.

## Use

```python
import smdguard as sg

guard = sg.load("{{ entry.name }}")
print(guard.predict("image.png"))
```

Images are {{ entry.input.channels }} x {{ entry.input.height }} x {{ entry.input.width }}, in [0, 1]; normalisation \
is inside the model. Classes: {{ entry.labels | join(", ") }}.

## Training

Objective: `{{ entry.objective.name }}`{{ in_brackets(entry.objective.parameters) }}.
{%- if entry.objective.adversarial_training %}
Adversarial training: every step learns from images that were attacked first\
{{ in_brackets(entry.objective.adversarial_training) }}.
{%- endif %}
{{ entry.training.num_epochs }} epochs, seed {{ entry.training.seed }}, batches of {{ config.training.batch_size }}, \
Adam with a {{ config.training.learning_rate_schedule }} learning rate of {{ config.training.learning_rate }}, weight \
decay {{ config.training.weight_decay }}\
{% if config.training.precision != "float32" %}, products in {{ config.training.precision }}{% endif %}\
{% if entry.training.commit %}, code at commit {{ entry.training.commit[:12] }}{% endif %}.
{{ "{:,}".format(config.training.num_calibration_images) }} training images were held out. On all test images of the \
data set the clean accuracy is {{ percent(config.clean_accuracy, 2) }}.
{%- if config.suspicion %}
An input is called suspicious if the members' disagreement is above \
{{ "%.4g" | format(config.suspicion.threshold) }} nats; this flags 1 % of the held-out images and \
{{ percent(config.suspicion.test_rate, 2) }} of the test images. An adversary can stay below it\
{% if suspicion %}: of {{ suspicion.num_images }} test images {{ unaware.name }} leaves \
{{ percent(unaware.undetected.value) }} misclassified and not flagged, an attack that knows of the threshold \
{{ percent(aware.undetected.value) }}{% endif %}.
{%- endif %}

## Intended use and limits

For research on robustness, for teaching, and as a baseline. It knows images like those of {{ dataset }} and nothing \
else: any input is assigned to one of its {{ entry.architecture.num_classes }} classes. Do not rely on it where a \
wrong answer does harm. The figures hold for the attacks that were run; another attack may do better.
{%- if entry.citation %}

## References

{{ entry.citation }}.
{%- endif %}
""",
    keep_trailing_newline=True,
)


def model_card(entry: ManifestEntry, config: ModelConfig, suspicion: SuspicionReport | None) -> str:
    """The card of an entry in Markdown, with the metadata that the Hub renders.

    Args:
        entry: What the manifest says of the model.
        config: What its folder says.
        suspicion: What its audit found of the suspicion.
    """
    unaware, aware = suspicion.attacks if suspicion else (None, None)
    context: dict[str, Any] = {
        "entry": entry,
        "config": config,
        "dataset": entry.training.dataset,
        "worst": entry.worst_case,
        "attacks": [evaluation for evaluation in entry.evaluations if evaluation.attack != WORST_CASE],
        "suspicion": suspicion,
        "unaware": unaware,
        "aware": aware,
        "percent": percent,
        "in_brackets": _in_brackets,
        "usual_num_epochs": usual_recipe(entry.name).num_epochs if is_preview(entry.name) else None,
    }
    return _TEMPLATE.render(context)


def _in_brackets(settings: Mapping[str, object]) -> str:
    """Names with their values; of a model that was built on, the name without its checksum."""
    written = ", ".join(f"{name} {str(value).partition('@')[0]}" for name, value in settings.items())
    return f" ({written})" if written else ""
