"""Small dictionaries for the prompts: the same ten things in the languages of the demo.

Written for this project. None of them names a picture of the demo gallery. Whoever adds a language
adds its line here.
"""

ENGLISH = (
    "sad child", "red hat", "closed door", "white wall", "little bird", "green leaves",
    "bottle of water", "burning candle", "old man reading a newspaper", "two glasses of wine",
)  # fmt: skip

# By ISO 639-1 code, as people type: no articles. The English ones say the same in other words.
TRANSLATED: dict[str, tuple[str, ...]] = {
    "en": ("kid who is crying", "scarlet hat", "door that is shut", "wall painted white",
           "tiny bird", "green foliage", "water bottle", "lit candle",
           "elderly man with a newspaper", "a couple of glasses of wine"),
    "de": ("trauriges Kind", "roter Hut", "geschlossene Tür", "weiße Wand", "kleiner Vogel",
           "grüne Blätter", "Flasche Wasser", "brennende Kerze", "alter Mann liest Zeitung",
           "zwei Gläser Wein"),
    "fr": ("enfant triste", "chapeau rouge", "porte fermée", "mur blanc", "petit oiseau",
           "feuilles vertes", "bouteille d'eau", "bougie allumée", "vieil homme lisant le journal",
           "deux verres de vin"),
    "es": ("niño triste", "sombrero rojo", "puerta cerrada", "pared blanca", "pájaro pequeño",
           "hojas verdes", "botella de agua", "vela encendida", "anciano leyendo el periódico",
           "dos copas de vino"),
    "it": ("bambino triste", "cappello rosso", "porta chiusa", "muro bianco", "uccellino",
           "foglie verdi", "bottiglia d'acqua", "candela accesa", "vecchio che legge il giornale",
           "due bicchieri di vino"),
    "pt": ("criança triste", "chapéu vermelho", "porta fechada", "parede branca", "passarinho",
           "folhas verdes", "garrafa de água", "vela acesa", "velho lendo jornal",
           "duas taças de vinho"),
    "zh": ("悲伤的孩子", "红色的帽子", "关着的门", "白色的墙", "小鸟", "绿叶", "一瓶水",
           "点燃的蜡烛", "看报纸的老人", "两杯葡萄酒"),
    "ja": ("悲しい子ども", "赤い帽子", "閉まったドア", "白い壁", "小鳥", "緑の葉", "水のボトル",
           "火のついたろうそく", "新聞を読む老人", "ワイン二杯"),
    "ko": ("슬픈 아이", "빨간 모자", "닫힌 문", "하얀 벽", "작은 새", "초록색 잎", "물병",
           "타는 촛불", "신문 읽는 노인", "와인 두 잔"),
    "ru": ("грустный ребёнок", "красная шляпа", "закрытая дверь", "белая стена",
           "маленькая птичка", "зелёные листья", "бутылка воды", "горящая свеча",
           "старик читает газету", "два бокала вина"),
    "tr": ("üzgün çocuk", "kırmızı şapka", "kapalı kapı", "beyaz duvar", "küçük kuş",
           "yeşil yapraklar", "su şişesi", "yanan mum", "gazete okuyan yaşlı adam",
           "iki kadeh şarap"),
    "id": ("anak sedih", "topi merah", "pintu tertutup", "dinding putih", "burung kecil",
           "daun hijau", "botol air", "lilin menyala", "kakek membaca koran",
           "dua gelas anggur"),
    "ar": ("طفل حزين", "قبعة حمراء", "باب مغلق", "جدار أبيض", "طائر صغير", "أوراق خضراء",
           "زجاجة ماء", "شمعة مشتعلة", "رجل عجوز يقرأ الجريدة", "كأسان من النبيذ"),
    "fa": ("کودک غمگین", "کلاه قرمز", "در بسته", "دیوار سفید", "پرنده کوچک", "برگ‌های سبز",
           "بطری آب", "شمع روشن", "پیرمرد در حال خواندن روزنامه", "دو لیوان شراب"),
}  # fmt: skip
