"""The words and categories of the generated catalogue: data, no code.

A content word belongs to exactly one topic and is a single lower-case token, so that the topic posterior can
be computed from the written text alone. Neutral words (fillers, sentences) share no token with them.
"""

# Products of each category in the real catalogue: the generated one has the same skew (13.4 : 1).
CLASS_SIZES = {
    10: 3116, 40: 2508, 50: 1681, 60: 832, 1140: 2671, 1160: 3953, 1180: 764, 1280: 4870, 1281: 2070,
    1300: 5045, 1301: 807, 1302: 2491, 1320: 3241, 1560: 5073, 1920: 4303, 1940: 803, 2060: 4993, 2220: 824,
    2280: 4760, 2403: 4774, 2462: 1421, 2522: 4989, 2582: 2589, 2583: 10209, 2585: 2496, 2705: 2761,
    2905: 872,
}  # fmt: skip

# Categories told by text alone, each with a topic of its own.
TEXT_CLASSES = {
    50: "manette casque chargeur volant câble batterie dualshock joystick housse adaptateur pavé micro dock "
    "grip sangle support",
    60: "console nintendo playstation xbox gameboy sega portable wii switch salon bundle megadrive dreamcast "
    "famicom gamecube atari",
    1180: "warhammer donjon dragon elfe orque nain guerrier magicien dé plateau rôle armée peinture résine "
    "gobelin chevalier",
    1160: "carte pokémon booster yugioh magic holographique protège jumbo deck pikachu brillante panini "
    "extension starter duel collector",
    1301: "chaussette body pyjama bavoir chausson bonnet grenouillère naissance layette brassière collant "
    "moufle barboteuse gigoteuse maille tricot",
    1320: "poussette biberon couche tétine siège berceau landau matelas allaitement porteur langer veilleuse "
    "baignoire barrière babyphone transat",
    1940: "café thé chocolat biscuit confiture miel épice sirop bonbon sucre dosette tisane caramel noisette "
    "vanille amande",
    2220: "chien chat collier laisse gamelle litière croquette aquarium griffoir niche harnais cage oiseau "
    "lapin hamster perroquet",
    2280: "journal revue magazine numéro hebdomadaire gazette presse mensuel illustré reportage couverture "
    "article supplément parution quotidien rédaction",
    2403: "livre roman tome auteur poche poème récit histoire chapitre volume encyclopédie dictionnaire "
    "conte bibliothèque reliure essai",
    2522: "cahier stylo papier crayon classeur carnet enveloppe gomme feutre agenda encre règle trousse "
    "trombone agrafeuse calligraphie",
    2582: "parasol tonnelle transatlantique hamac balancelle pergola chaise rotin teck résille coussin "
    "abri serre pavillon voilage balustrade",
    2585: "tondeuse taille tronçonneuse sécateur arrosage tuyau râteau pelle souffleur débroussailleuse haie "
    "lame brouette bêche gazon élagueur",
}

# Categories told by the photo alone: their texts are about the shared topics.
IMAGE_CLASSES = (10, 40, 1140, 1280, 1281, 1300, 1302, 1920, 2060, 2462, 2705, 2905)

# Categories told only by text and photo together. Their order is their number in the modular sum.
BOTH_CLASSES = (1560, 2583)

# What the texts of photo-told and jointly told categories are about; one topic per jointly told category.
SHARED_TOPICS = (
    "vintage collection ancien rétro rare édition limitée numéroté authentique prestige série héritage "
    "époque antique classique signature",
    "enfant famille garçon fille maman papa éducatif amusant apprentissage école câlin douceur comptine "
    "bambin créatif éveil",
)

# Between the content words of a title; French mostly, some English and German.
FILLERS = ("de", "pour", "avec", "et", "en", "à", "de", "pour", "avec", "et", "with", "for", "mit", "und")
OPENINGS = (
    "",
    "",
    "",
    "",
    "Lot de 2",
    "Lot de 10",
    "Pack",
    "Nouveau",
    "Brand new",
    "Set of 3",
    "Neu",
    "Superbe",
)
ENDINGS = ("", "", "", "", "- neuf", "très bon état", "- livraison rapide", "20 x 30 cm", "- free shipping",
           "(réf. 4512)", "haute qualité", "- Original verpackt", "50 cm", "- occasion")  # fmt: skip

# {} takes two to four content words.
SENTENCES = (
    "Découvrez notre modèle {}.",
    "Très bonne qualité : {}.",
    "Livré chez vous avec {}.",
    "Idéal pour {}.",
    "Caractéristiques : {}.",
    "Un produit pensé pour {}, garanti 2 ans.",
    "Dimensions : 20 x 30 cm ; {}.",
    "Expédition rapide & soignée : {}.",
    "Contenu de l'emballage : {}.",
    "Great value: {}.",
    "Perfect for {}.",
    "Hochwertige Verarbeitung: {}.",
)
