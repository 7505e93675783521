"""What the mark of a preview stands for."""

from zoo.preview import is_preview, usual_recipe


def test_preview_has_the_recipe_of_its_name_without_the_mark() -> None:
    recipe = usual_recipe("smd-resnet20-cifar10-preview")
    assert (recipe.name, recipe.num_epochs) == ("smd-resnet20-cifar10", 200)
    assert is_preview("smd-resnet20-cifar10-preview")
    assert not is_preview("smd-lenet-mnist-s1")
