"""English words for the eight emotions, by kind and strength; levels are set apart by ``|``, words by commas."""

from __future__ import annotations

from typing import NamedTuple

Levels = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class Words(NamedTuple):
    """The words for one emotion; each kind holds those of level 1, 2 and 3.

    Attributes:
        names: other names of the emotion itself, which stand before a level as its label does.
    """

    names: tuple[str, ...]
    adjectives: Levels
    adverbs: Levels
    nouns: Levels
    actions: Levels


def _levels(text: str) -> Levels:
    parts = " ".join(text.split()).split("|")
    one, two, three = (tuple(word for word in map(str.strip, part.split(",")) if word) for part in parts)
    return one, two, three


def _words(names: str, adjectives: str, adverbs: str, nouns: str, actions: str) -> Words:
    kinds = (_levels(text) for text in (adjectives, adverbs, nouns, actions))
    return Words(tuple(name.strip() for name in names.split(",")), *kinds)


def all_words(words: Words) -> set[str]:
    """Every name, adjective, adverb, noun and action of an emotion."""
    kinds = (words.adjectives, words.adverbs, words.nouns, words.actions)
    return {*words.names, *(word for kind in kinds for level in kind for word in level)}


LEXICON: dict[str, Words] = {
    "angry": _words(
        "anger, mad",
        """annoyed, irritated, irked, displeased, grumpy, cross, impatient, miffed, testy, irritable, bothered, cranky,
        frustrated | angry, mad, hostile, resentful, indignant, agitated, aggressive, bitter, heated, offended,
        pissed off, threatening, ill-tempered | furious, enraged, livid, outraged, raging, irate, infuriated,
        seething, incensed, wrathful, ferocious, fuming, boiling""",
        """irritably, grumpily, crossly, impatiently, testily | angrily, aggressively, indignantly, bitterly,
        resentfully, hotly | furiously, wrathfully, ferociously, savagely""",
        """annoyance, irritation, displeasure, impatience, frustration | anger, hostility, indignation, resentment,
        aggression, temper | fury, rage, outrage, wrath, hatred""",
        """grumble, complain, sulk | frown in anger, raise your voice, lose your temper, clench your teeth, shout,
        glare, snap at them, scold someone, argue, accuse someone, have had enough | explode with rage, scream in
        fury, yell at the top of your voice, see red, blow your top, boil with rage, be mad as hell""",
    ),
    "contempt": _words(
        "disdain, scorn",
        """condescending, smug, snide, dismissive, haughty, snobbish, patronizing, patronising, unimpressed, superior,
        snooty | contemptuous, scornful, disdainful, sneering, mocking, arrogant, derisive, sarcastic, cynical,
        disrespectful, sardonic, supercilious | withering, scathing, despising, merciless""",
        """smugly, condescendingly, dismissively, haughtily, snidely | contemptuously, scornfully, disdainfully,
        mockingly, arrogantly, derisively, sarcastically, sneeringly | witheringly, scathingly""",
        """smugness, condescension, snobbery | contempt, scorn, disdain, mockery, arrogance, derision, superiority,
        sarcasm, disrespect, ridicule | utter contempt, complete disdain""",
        """smirk, raise one eyebrow in doubt | look down on someone, sneer, roll your eyes, curl your lip, scoff at
        them, mock the listener, act as if they were beneath you, ridicule them, look down your nose, talk down to
        them, belittle someone | despise them, treat them like dirt""",
    ),
    "disgusted": _words(
        "disgust",
        """queasy, put off, squeamish, turned off, a bit sick | disgusted, grossed out, nauseated, nauseous, repelled,
        repulsed | revolted, appalled, sickened, revolting""",
        """squeamishly, queasily, distastefully | disgustedly, in disgust | revoltedly, sickeningly""",
        """distaste, aversion, queasiness, dislike | disgust, nausea, repugnance, repulsion | revulsion, loathing,
        abhorrence""",
        """turn up your nose | wrinkle your nose, act as if something smelled bad, gag, say yuck, say ew, taste
        something rotten, smell rotten food, make a face at the stink, find it gross, act like there is a bad smell
        | feel sick to your stomach, want to throw up, be about to vomit, retch, puke""",
    ),
    "fear": _words(
        "fearful, afraid, scared",
        """nervous, anxious, worried, uneasy, apprehensive, tense, concerned, timid, jittery, hesitant, insecure, shy |
        afraid, scared, fearful, frightened, alarmed, spooked, intimidated, trembling | terrified, petrified,
        panicked, horrified, panic-stricken, scared to death, panicking, hysterical""",
        """nervously, anxiously, worriedly, timidly, apprehensively, hesitantly | fearfully, in fear, shakily | in
        panic, in terror, frantically""",
        """nervousness, anxiety, worry, unease, apprehension, tension | fear, fright, alarm, dread | terror, panic,
        horror""",
        """worry, hesitate, bite your nails, stutter | tremble, shake with fear, shiver, cower, see a ghost, hide from
        danger, act as if a monster was behind you, be scared of the dark, be chased by someone, back away | fear
        for your life, scream in terror, panic, freeze with horror, run from a fire""",
    ),
    "happy": _words(
        "happiness, joy",
        """pleased, content, glad, satisfied, amused, friendly, pleasant, warm, hopeful | happy, cheerful, joyful,
        merry, delighted, jolly, smiling, upbeat, bright, sunny, playful, positive, enthusiastic, excited, lively,
        cheery, joyous, grateful, proud, laughing, optimistic | ecstatic, overjoyed, thrilled, elated, euphoric,
        jubilant, blissful, exhilarated, over the moon, radiant""",
        """pleasantly, warmly, contentedly | happily, cheerfully, joyfully, merrily, gladly, brightly, playfully,
        enthusiastically, excitedly, cheerily | ecstatically, jubilantly, blissfully, euphorically""",
        """contentment, amusement, satisfaction, pleasure, warmth | happiness, joy, cheer, cheerfulness, delight, fun,
        enthusiasm, excitement, laughter, gladness | ecstasy, elation, euphoria, bliss, jubilation""",
        """smile, give a warm smile | grin, laugh, smile broadly, celebrate good news, have a great time, smile with
        joy, enjoy your birthday party, welcome a friend, have fun, chuckle, giggle | laugh out loud, beam with joy,
        jump for joy, win the lottery, have won a prize, cheer loudly""",
    ),
    "neutral": _words(
        "calm, normal",
        """calm, neutral, composed, expressionless, blank, plain, even, impassive, unemotional, emotionless, relaxed,
        matter-of-fact, objective, ordinary, normal, indifferent, flat, deadpan, monotone, natural, steady, stoic,
        businesslike, level-headed, unmoved | |""",
        """calmly, neutrally, plainly, evenly, impassively, flatly, normally, steadily, matter-of-factly, naturally,
        objectively | |""",
        """calmness, neutrality, composure, no emotion, no expression, no feelings, a straight face, a poker face,
        indifference | |""",
        """read the news, keep a straight face, show no emotion, state the facts, keep a poker face, stay calm, speak
        like a newsreader, just talk, speak without emotion, relax your face, give a report | |""",
    ),
    "sad": _words(
        "sadness, unhappy",
        """gloomy, blue, down, unhappy, disappointed, melancholy, wistful, somber, pensive, regretful, glum, moody,
        discouraged | sad, sorrowful, upset, tearful, mournful, dejected, miserable, depressed, hurt, lonely,
        downcast, hopeless, unfortunate, sorry | heartbroken, devastated, grief-stricken, despairing, inconsolable,
        desolate, anguished, crushed, weeping, sobbing, crying""",
        """gloomily, glumly, wistfully, somberly, regretfully | sadly, sorrowfully, tearfully, mournfully, dejectedly,
        miserably, unhappily | despairingly, inconsolably, desperately""",
        """gloom, disappointment, melancholy, regret | sadness, sorrow, misery, unhappiness, depression, loneliness,
        tears, pain | grief, despair, heartbreak, anguish, desolation""",
        """sigh, hang your head | hold back tears, mourn, look down with tears in your eyes, miss someone, have bad
        news, lose a friend, pout | cry, weep, sob, burst into tears, lose your mother, grieve, attend a funeral,
        hear that your dog died, mourn a death""",
    ),
    "surprised": _words(
        "surprise",
        """intrigued, puzzled, taken aback, wondering, perplexed, impressed | surprised, amazed, astonished, startled,
        bewildered, incredulous, wide-eyed | astounded, stunned, shocked, flabbergasted, dumbfounded, thunderstruck,
        speechless, awestruck, gobsmacked, staggered, blown away""",
        """wonderingly, in wonder | in surprise, surprisedly, in astonishment, in amazement, incredulously | in shock,
        in disbelief""",
        """wonder, puzzlement | surprise, amazement, astonishment, bewilderment | shock, disbelief, awe""",
        """raise your eyebrows, wonder | open your eyes wide, gasp, say wow, be caught off guard, not expect it, get an
        unexpected present, find out something unexpected | drop your jaw, be unable to believe it, be lost for
        words, not believe your eyes, cannot believe it""",
    ),
}
