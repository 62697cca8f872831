"""The prompts that have queries written: a caption and a language, and what a person types.

They are completion prompts, as the rewriter's own, so that a base model of any size follows them as
well as one that was taught to chat. The language is part of what is asked, and all languages share
one prompt: the engine computes its beginning once, and a language without an example of its own
still has the pattern.
"""

from models.rewriter.tasks import Task

# None of the examples names a picture of the demo gallery.
NAMES = Task(
    name="multilingual",
    instruction="What people type when they look for a picture, in their own language.",
    labels=("Picture and language", "Typed"),
    examples=(
        ("sad child / German", "trauriges kind"),
        ("black umbrella / Chinese", "黑色的雨伞"),
        ("small blue bird / Spanish", "pequeño pájaro azul"),
        ("laughing girl / Persian", "دختر خندان"),
        ("door frame / French", "cadre de porte"),
        ("female shop clerk / Japanese", "女性の店員"),
        ("towel / Russian", "полотенце"),
        ("praying man / Portuguese", "homem a rezar"),
        ("green hat / Korean", "초록색 모자"),
        ("closed door / Turkish", "kapalı kapı"),
        ("red hat / Arabic", "قبعة حمراء"),
        ("bottle of water / Italian", "bottiglia di acqua"),
        ("long road / Indonesian", "jalan panjang"),
        ("cupboard with two doors / German", "schrank mit zwei türen"),
        ("bent arrow / Chinese", "弯曲的箭"),
        ("empty coffee cup / Spanish", "taza de café vacía"),
        ("burning candle / French", "bougie allumée"),
        ("green leaves / Japanese", "緑の葉"),
        ("red apples / Russian", "красные яблоки"),
        ("visitor / German", "besucher"),
        ("crying man / Korean", "우는 남자"),
        ("white wall / Persian", "دیوار سفید"),
        ("little bird / Arabic", "طائر صغير"),
        ("blue wall / Turkish", "mavi duvar"),
    ),
    max_tokens=24,
    max_chars=240,
)

DESCRIPTIONS = Task(
    name="long",
    instruction="How people who do not know the word describe a picture that they look for.",
    labels=("Picture and language", "Description"),
    examples=(
        (
            "wheelbarrow / English",
            "the thing with one wheel and two handles that a gardener pushes along to carry earth",
        ),
        (
            "people having dinner at long tables / German",
            "ein Bild von einem Raum, in dem viele Menschen an langen Tischen sitzen und gemeinsam "
            "zu Abend essen",
        ),
        (
            "stapler / English",
            "that small metal tool on every desk that you press down to join sheets of paper",
        ),
        (
            "man on a beach holding a big fish / English",
            "the photo where somebody stands by the sea in the morning and shows the huge fish he "
            "has caught",
        ),
        (
            "red roof / French",
            "je cherche la photo d'une maison dont le toit est tout rouge, vue d'en haut",
        ),
        (
            "curtain / English",
            "the long piece of cloth beside a window that you pull to keep the light out",
        ),
    ),
    max_tokens=56,
    max_chars=480,
)

CHANGES = Task(
    name="composed",
    instruction="What people say to get from one picture to another.",
    labels=("From, to and language", "Change"),
    examples=(
        ("red sofa / green sofa / English", "but green"),
        ("man reading a newspaper / woman reading a newspaper / German", "als Frau"),
        ("laughing child / sad child / French", "triste"),
        ("woman painting a wall / woman asleep / English", "asleep instead"),
        ("house number 3 / house number 8 / English", "with the number 8"),
        ("road sign pointing left / road sign pointing right / Japanese", "右向き"),
        ("small drawer / large drawer / English", "the largest one"),
        ("lamp switched on / lamp switched off / French", "éteinte"),
        ("black boots / white boots / Spanish", "en blanco"),
        ("sleeping lamb / sleeping calf / English", "as a calf"),
        ("old door / new door / Chinese", "换成新的"),
        ("girl pulling a face / girl smiling / English", "smiling"),
    ),
    max_tokens=24,
    max_chars=480,
)


def asked(task: Task, language: str, *captions: str) -> str:
    """What stands behind the first label: the captions and the English name of the language.

    Long captions are cut, because the task would cut the language off.
    """
    room = (task.max_chars - len(language)) // len(captions) - len(" / ")
    parts = [" ".join(caption.split()).replace(" / ", " ")[:room].rstrip() for caption in captions]
    return " / ".join([*parts, language])
