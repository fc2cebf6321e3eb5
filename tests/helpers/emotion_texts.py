"""Texts written by hand after the lexicon was finished, without looking at it, for an honest measure of the mapping."""

INDEPENDENT = {
    "angry": (
        "the boss is furious with his workers", "an angry mother yelling at her kids", "speak with suppressed rage",
        "very irritated tone of voice", "he is mad at the referee", "an outburst of anger", "aggressive and loud",
        "her brows are knitted, she is fuming", "I hate you, get out of here!", "an infuriated customer complains",
    ),
    "contempt": (
        "with an air of superiority", "she looks at him scornfully", "a contemptuous sneer on one side of the mouth",
        "arrogant aristocrat speaking to a servant", "dripping with sarcasm", "disdain for everyone in the room",
        "a smug politician", "he mocks his opponent", "as if you do not respect them in the least", "condescending teacher",
    ),
    "disgusted": (
        "there is a hair in my soup, ew", "disgusted by the smell of the garbage", "revolted expression",
        "she feels nauseous looking at the insects", "full of disgust", "a repulsed face after drinking sour milk",
        "that is so gross", "grimace of revulsion", "sickened by what you saw", "eww, look at this mess",
    ),
    "fear": (
        "a terrified child in a haunted house", "scared out of her mind", "he is anxious before the surgery",
        "speak as if someone is following you", "her voice trembles with fear", "extremely nervous candidate",
        "panic in his eyes", "afraid of losing everything", "a worried parent", "frightened by the thunder",
    ),
    "happy": (
        "a joyful bride on her wedding day", "radiating happiness", "cheerful morning show host", "smiling warmly",
        "she is in a great mood", "laughing at a funny joke", "very pleased with the gift", "excited kid at christmas",
        "the happiest man on earth", "a gleeful tone",
    ),
    "neutral": (
        "a neutral expression", "without any emotion", "calm and relaxed narrator", "monotone voice",
        "a normal conversation, nothing special", "serious news anchor reading the headlines", "emotionless robot",
        "speak plainly", "poker face", "not angry, not happy",
    ),
    "sad": (
        "a grieving widow at a funeral", "tears rolling down her cheeks", "he sounds depressed and hopeless",
        "a sad farewell", "about to cry", "deep sorrow in her eyes", "a melancholic poem", "lonely old man",
        "he just lost his best friend", "sobbing uncontrollably",
    ),
    "surprised": (
        "you are shocked by the twist ending", "with raised eyebrows and open mouth", "astonished by the magic trick",
        "what?! I did not see that coming", "a surprise party for her", "amazed tourist", "jaw dropping moment",
        "startled by a loud bang", "utter disbelief", "oh my god, really?",
    ),
}
