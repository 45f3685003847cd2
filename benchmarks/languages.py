"""The embedded recogniser in several languages, spoken by a machine: language found, and error.

    python benchmarks/languages.py [--asr embedded] [--languages de fr ...] [--rooms-only]

espeak-ng reads a paragraph a language (`apt-get install espeak-ng`; nothing else needs it), and
each is heard as `contentctr transcribe` hears a room, beginning with the room and 13 s later. A
machine's voice is no person's: the numbers tell languages and settings apart, and say little of
real rooms. The error is of words, in Chinese of characters, a mean of both; "given" is with
--language; "told" is in how many of the two the user is warned. Then rooms in which speech comes
late, or changes its language.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from contentctr.errors import InputError
from contentctr.rooms.sound import RATE, SoundReader
from contentctr.rooms.video import Video
from contentctr.transcribe.recogniser import load_recogniser
from contentctr.transcribe.recording import Sound, hear_recording
from contentctr.transcribe.segments import Heard, Recogniser
from speech import Samples, kinds

WORDS_A_MINUTE = 150
SEGMENT_S = 30.0
OFFSETS_S = (0.0, 13.0)
VOICES = {"en": "en-gb", "fr": "fr-fr", "zh": "cmn-latn-pinyin"}
"""Of espeak-ng, where they are named otherwise than Whisper's languages."""
TEXTS = {
    "en": """
        Good evening and welcome to my kitchen. Today we bake bread together, and I will
        show you every step. First we mix the flour with warm water and a little salt.
        Then the dough has to rest for an hour, because it needs time to grow. Please
        write to me where you come from and what you like to eat in the morning. My
        grandmother baked this bread every Saturday, and the whole house smelled of it.
        When the oven is hot enough, we put the bread on the lower shelf. After half an
        hour it is brown and hard outside, but soft inside. If you like the recipe, tell
        your friends about it and come back next week.""",
    "de": """
        Guten Abend und willkommen in meiner Küche. Heute backen wir zusammen Brot, und
        ich zeige euch jeden Schritt. Zuerst mischen wir das Mehl mit warmem Wasser und
        etwas Salz. Dann muss der Teig eine Stunde ruhen, denn er braucht Zeit zum
        Wachsen. Schreibt mir bitte, woher ihr kommt und was ihr am Morgen gerne esst.
        Meine Großmutter hat dieses Brot jeden Samstag gebacken, und das ganze Haus roch
        danach. Wenn der Ofen heiß genug ist, stellen wir das Brot auf das untere Blech.
        Nach einer halben Stunde ist es außen braun und hart, aber innen weich. Wenn
        euch das Rezept gefällt, erzählt es euren Freunden und kommt nächste Woche
        wieder.""",
    "fr": """
        Bonsoir et bienvenue dans ma cuisine. Aujourd'hui nous faisons du pain ensemble,
        et je vais vous montrer chaque étape. D'abord nous mélangeons la farine avec de
        l'eau chaude et un peu de sel. Ensuite la pâte doit reposer pendant une heure,
        car elle a besoin de temps pour lever. Écrivez-moi d'où vous venez et ce que
        vous aimez manger le matin. Ma grand-mère faisait ce pain tous les samedis, et
        toute la maison sentait bon. Quand le four est assez chaud, nous posons le pain
        sur la grille du bas. Après une demi-heure il est brun et dur dehors, mais
        tendre dedans. Si la recette vous plaît, parlez-en à vos amis et revenez la
        semaine prochaine.""",
    "es": """
        Buenas noches y bienvenidos a mi cocina. Hoy hacemos pan juntos, y les voy a
        mostrar cada paso. Primero mezclamos la harina con agua caliente y un poco de
        sal. Después la masa tiene que descansar durante una hora, porque necesita
        tiempo para crecer. Escríbanme de dónde son y qué les gusta comer por la mañana.
        Mi abuela hacía este pan todos los sábados, y toda la casa olía a él. Cuando el
        horno está bastante caliente, ponemos el pan en la parte de abajo. Después de
        media hora está dorado y duro por fuera, pero blando por dentro. Si les gusta la
        receta, cuéntenlo a sus amigos y vuelvan la próxima semana.""",
    "ru": """
        Добрый вечер и добро пожаловать на мою кухню. Сегодня мы вместе печём хлеб, и я
        покажу вам каждый шаг. Сначала мы смешиваем муку с тёплой водой и добавляем
        немного соли. Потом тесто должно отдохнуть один час, потому что ему нужно время,
        чтобы подняться. Напишите мне, откуда вы и что вы любите есть по утрам. Моя
        бабушка пекла этот хлеб каждую субботу, и весь дом пах хлебом. Когда печь
        достаточно горячая, мы ставим хлеб на нижнюю полку. Через полчаса он снаружи
        тёмный и твёрдый, а внутри мягкий. Если вам понравился рецепт, расскажите о нём
        своим друзьям и приходите на следующей неделе.""",
    "zh": """
        大家晚上好，欢迎来到我的厨房。今天我们一起做面包，我会给你们看每一个步骤。首先我们把面粉
        和温水放在一起，再加一点盐。然后面团要休息一个小时，因为它需要时间长大。请写信告诉我，你
        们从哪里来，早上喜欢吃什么。我的奶奶每个星期六都做这种面包，整个房子都很香。烤箱够热的时
        候，我们把面包放在下面。半个小时以后，面包外面很硬，里面很软。如果你们喜欢这个做法，请告
        诉你们的朋友，下个星期再来看我。""",
    "hi": """
        नमस्ते और मेरी रसोई में आपका स्वागत है। आज हम साथ में रोटी बनाएंगे, और मैं आपको
        हर कदम दिखाऊंगा। पहले हम आटे को गरम पानी और थोड़े नमक के साथ मिलाते हैं। फिर आटे
        को एक घंटे तक आराम करना चाहिए, क्योंकि उसे समय चाहिए। कृपया मुझे लिखिए कि आप
        कहां से हैं और आपको सुबह क्या खाना पसंद है। मेरी दादी हर शनिवार को यह रोटी बनाती
        थी, और पूरे घर में खुशबू आती थी। जब चूल्हा गरम हो जाता है, तब हम रोटी को नीचे
        रखते हैं। आधे घंटे के बाद वह बाहर से सख्त और अंदर से नरम होती है। अगर आपको यह
        तरीका पसंद है, तो अपने दोस्तों को बताइए और अगले हफ्ते फिर आइए।""",
}
"""The same in each language; written for this file."""
READ_AS = {
    "zh": """
        da4jia1 wan3shang5 hao3, huan1ying2 lai2dao4 wo3 de5 chu2fang2. jin1tian1
        wo3men5 yi4qi3 zuo4 mian4bao1, wo3 hui4 gei3 ni3men5 kan4 mei3 yi2 ge5 bu4zhou4.
        shou3xian1 wo3men5 ba3 mian4fen3 he2 wen1shui3 fang4 zai4 yi4qi3, zai4 jia1
        yi4dian3 yan2. ran2hou4 mian4tuan2 yao4 xiu1xi5 yi2 ge5 xiao3shi2, yin1wei4 ta1
        xu1yao4 shi2jian1 zhang3da4. qing3 xie3xin4 gao4su5 wo3, ni3men5 cong2 na3li5
        lai2, zao3shang5 xi3huan5 chi1 shen2me5. wo3 de5 nai3nai5 mei3 ge5 xing1qi1liu4
        dou1 zuo4 zhe4 zhong3 mian4bao1, zheng3 ge5 fang2zi5 dou1 hen3 xiang1.
        kao3xiang1 gou4 re4 de5 shi2hou5, wo3men5 ba3 mian4bao1 fang4 zai4 xia4mian5.
        ban4 ge5 xiao3shi2 yi3hou4, mian4bao1 wai4mian4 hen3 ying4, li3mian4 hen3 ruan3.
        ru2guo3 ni3men5 xi3huan5 zhe4 ge5 zuo4fa3, qing3 gao4su5 ni3men5 de5 peng2you5,
        xia4 ge5 xing1qi1 zai4 lai2 kan4 wo3.""",
}
"""Of Chinese characters espeak-ng reads most as "Chinese letter"."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--asr", default="embedded")
    parser.add_argument("--languages", nargs="+", default=list(TEXTS), choices=list(TEXTS))
    parser.add_argument("--rooms-only", action="store_true")
    chosen = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print("left out: espeak-ng is not installed, which speaks the texts")
        return
    try:
        recogniser = load_recogniser(chosen.asr)
        with tempfile.TemporaryDirectory() as folder:
            if not chosen.rooms_only:
                print_languages(recogniser, chosen.languages, Path(folder))
            print_rooms(recogniser, Path(folder))
    except InputError as error:
        sys.exit(f"error: {error}")


def print_languages(recogniser: Recogniser, languages: list[str], folder: Path) -> None:
    """A row a language."""
    print("| language | s | found, a segment | told | error | error, given | told, given |")
    print("|---|---|---|---|---|---|---|")
    for language in languages:
        sound = spoken(language, folder)
        cells = [language, str(round(len(sound) / RATE))]
        for given in (None, language):
            rooms = [
                hear(
                    recogniser,
                    np.concatenate([np.zeros(round(s * RATE), np.float32), sound]),
                    given,
                )
                for s in OFFSETS_S
            ]
            mean = np.mean([error(language, text(heard)) for heard, _ in rooms])
            if given is None:
                cells.append("; ".join(codes(heard) for heard, _ in rooms))
            counts = [f"{100 * mean:.0f} %", str(sum(bool(notes) for _, notes in rooms))]
            cells += counts if given else counts[::-1]
        print(f"| {' | '.join(cells)} |", flush=True)


def print_rooms(recogniser: Recogniser, folder: Path) -> None:
    """Speech that comes late, and speech that changes its language in the middle."""
    german, english = spoken("de", folder), spoken("en", folder)
    sounds, begin = kinds(), round(20 * RATE)
    print("| room | found, a segment | error | told |")
    print("|---|---|---|---|")
    for kind in ("silence", "music"):
        heard, notes = hear(recogniser, np.concatenate([sounds[kind][:begin], german]))
        row = [f"20 s of {kind}, then de", codes(heard), percent("de", heard), str(len(notes))]
        print(f"| {' | '.join(row)} |", flush=True)
    for before, after in (("en", "de"), ("de", "en")):
        # The first part ends with its segment, so that none has both.
        parts = {"de": german, "en": english}
        first = padded(parts[before])
        heard, notes = hear(recogniser, np.concatenate([first, parts[after]]))
        border = round(len(first) / RATE / SEGMENT_S)
        errors = f"{percent(before, heard[:border])}, {percent(after, heard[border:])}"
        row = [f"{before}, then {after}", codes(heard), errors, str(len(notes))]
        print(f"| {' | '.join(row)} |", flush=True)
        print(f"  after the change: {text(heard[border:])[:160]}", flush=True)


def spoken(language: str, folder: Path) -> Samples:
    """A language's text, as espeak-ng reads it."""
    path, voice = folder / f"{language}.wav", VOICES.get(language, language)
    words = " ".join(READ_AS.get(language, TEXTS[language]).split())
    subprocess.run(
        ["espeak-ng", "-v", voice, "-s", str(WORDS_A_MINUTE), "-w", str(path), words], check=True
    )
    with Video(path) as video:
        reader = SoundReader(video)
        for timed in video.packets():
            reader.add(timed)
        reader.finish()
        return reader.take(0.0, video.duration_s)


def hear(
    recogniser: Recogniser, sound: Samples, language: str | None = None
) -> tuple[list[Heard], list[str]]:
    """A recording of it, as rooms are heard; and what the user is told."""
    whole = padded(sound)
    notes: list[str] = []
    starts = np.arange(0.0, len(whole) / RATE, SEGMENT_S)
    spans = [(float(start), float(start) + SEGMENT_S) for start in starts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "room.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((whole.clip(-1, 1) * 32767).astype("<i2").tobytes())
        room = Sound(path=path, spans=spans, language=language)
        return hear_recording(recogniser, room, warnings=notes), notes


def padded(sound: Samples) -> Samples:
    """With silence up to the end of its last segment."""
    return np.concatenate([sound, np.zeros(-len(sound) % round(SEGMENT_S * RATE), np.float32)])


def text(heard: list[Heard]) -> str:
    return " ".join(each.text for each in heard)


def codes(heard: list[Heard]) -> str:
    return ", ".join(each.language or "-" for each in heard)


def percent(language: str, heard: list[Heard]) -> str:
    return f"{100 * error(language, text(heard)):.0f} %"


def error(language: str, found: str) -> float:
    """Of words; of characters where the language does not part them."""
    import jiwer

    expected, heard = (" ".join(plain(words)) for words in (TEXTS[language], found))
    if language == "zh":
        return float(jiwer.cer(expected.replace(" ", ""), heard.replace(" ", "")))
    return float(jiwer.wer(expected, heard))


def plain(words: str) -> Iterator[str]:
    """Words in lower case, without signs."""
    kept = (
        letter if unicodedata.category(letter)[0] in "LMN" else " "
        for letter in unicodedata.normalize("NFKC", words.lower())
    )
    yield from "".join(kept).split()


if __name__ == "__main__":
    main()
