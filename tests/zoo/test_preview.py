"""What the mark of a preview stands for."""

from zoo.preview import is_preview, recipe_of, usual_num_epochs


def test_preview_has_the_recipe_of_its_name_without_the_mark_and_its_own_epochs() -> None:
    recipe = recipe_of("smd-resnet20-cifar10-preview", 3)
    assert (recipe.name, recipe.num_epochs) == ("smd-resnet20-cifar10", 3)
    assert usual_num_epochs("smd-resnet20-cifar10-preview") == 200
    assert is_preview("smd-resnet20-cifar10-preview")
    assert not is_preview("smd-lenet-mnist-s1")
