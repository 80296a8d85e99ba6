"""A small real video of any wanted size, made without a codec.

The video is a second of 64x36 H.264 in an MP4, made once with PyAV. A trailing ``free``
box, which players skip, brings the file to its size (ISO/IEC 14496-12, section 8.1.2).
"""

from __future__ import annotations

import base64
import functools
import struct
import zlib
from collections.abc import Iterator

BASE_SIZE = 2059
"""Bytes of the video itself, the least that a canned file has."""

BOX_HEADER = 8
"""Bytes of an empty box: what a padded file has more than the video, at least."""

_CHUNK = 64 * 1024


@functools.cache
def base_video() -> bytes:
    """The video itself, unpacked at its first use."""
    return zlib.decompress(base64.b85decode(_PACKED))


def check_size(size: int) -> None:
    """Raise ``ValueError`` unless a canned file of ``size`` bytes can be made."""
    if size != BASE_SIZE and size < BASE_SIZE + BOX_HEADER:
        raise ValueError(
            f"content_size must be {BASE_SIZE} bytes or at least {BASE_SIZE + BOX_HEADER}, "
            f"not {size}"
        )


def canned_chunks(size: int) -> Iterator[bytes]:
    """The canned file in pieces, so that one of many gigabytes takes no memory.

    Args:
        size: Bytes in total; one that ``check_size`` accepts.

    Yields:
        Pieces of at most 64 KiB.
    """
    yield base_video()
    padding = size - BASE_SIZE
    if not padding:
        return
    # A box whose size doesn't fit in 32 bits says 0: it goes to the end of the file.
    yield struct.pack(">I4s", padding if padding < 2**32 else 0, b"free")
    zeros = bytes(_CHUNK)
    padding -= BOX_HEADER
    while padding > 0:
        yield zeros[:padding]
        padding -= _CHUNK


_PACKED = (
    "c-muNU{FXasVvAW&d+6FU}6B#Kx~v)mTZ_?U}DI?z$~7dpI^qnz>t$$mXX4M0+?TbF(U&AApj$)Ds;XB175%cL}?{O"
    "iP=DQOi4D_PG(HgKz8G|2b;Z24M5=sV6IAPN=Y%0mPySiE<xyknhVy;crQ04GZDy8$W1}_y8{@99szT7Gg5MjU@~Qy"
    "DXGXR!+`vJkHox`oK%n+#?IW#yfh#~q%0R~D6%tEQXq0NDMhJiNZ#NnEy_`Vuo*pzOOkSc?2W}G#VJT?7J?!TM^FGg"
    "4)nGMkl}$#1qP7#{~t)215I^iOkq&?|Byj49Z0Y7QDS9$%K?fMFwszPa6%6w1AE2`XGWGyI)8us0BIIUDk*}7s+t1K"
    "z~T~ch{LSs03)DUphu9!L0ASTmW(FG0i{iVa#ctU1vw)KNV|ia3&h4itOvxJK<o&mfp#S4BgHaEt!-&a2`F|=b5p@I"
    "2q+@QBrx`i5(^4)kVAzd6Ovpw(uz`n(adrtHzg6sXZB0&XkwE8+f?4@)_17%^`S-<<%u6<wKQJ%NY@?k;dES;yVkf?"
    "<L;ZQXJY3%tlIbUv|4S-sT_XgYMt(d4<Dc0#vNnuOYUgyf|EAu@|XTmKk>M(EK<<B`>(^PE0XrVQcwJ~S^H|{)c<Qj"
    "`43lDl$~|SJnFLe&9(Cl-*}8Ya#Ncx{9bOmz9(z(tZzFj1bla2sJA~Du$^<^0)NE^|8E|3e^F&{AoEVjoQ&1ew8T1I"
    "TMF9DJoB?vJai*Z(~mdp9k&#&emLiz@}|#6;P%nK25TRDVxD{8%;FC5jLYxD8~I}bJ$f`1?5d08cbdKP3+&6)D`BaW"
    "2%W8Sd#x|u(QW2i?mnJ1w>#icAJc~8ZA{OeeSLN1<EywO#k=p9DJO)l+E%&agi-5`$At;^)`zw#)fet4$S-9#GSo3F"
    "n|wP%T15Q|-@L>Fehaqww20fsF<#R!c&E+Lw>5Lp$Bsh*`_c-ZJ@{gCXxXP58)k{}f12qZ_T6H~1U;MN@N#{($xA&$"
    "9gGXl%zoHuvzPbtQ~5Mj&u!N?sw{TyxW~KSuf8FsXY!BW`ps<i(!B9v8tc2CC-PX7S#&N9-XZ%Xf9dMZz;k|%Ro6tP"
    "?<$pLxg73P%e<uS{lN$4YgIpO6|~vJsj}b(>j|OBUS~q5in6oq+xzg_yO>2^xBZ{m)40HI>P@Ru|Kk&4v;|E2Zya;>"
    "JE!)Hm2IPN)T57|>XUxA$ld>ZhHF}x9rxs8ySf%Jy>VJpwo<qCifiRNHiuc!&v$<ndDz6H@$jzE`4?JDyIjMz|95rV"
    "{5~{cs=DAFVcq2CVhi>Zv`u`oM_{9C(dW-$$2<1(hgw|vdu06-{aB@#2JW)I@x_YG7q9N&I(t<1`?F(rtv<c%Gilem"
    "%IGLoyRp%Hl5p0{lHBklsf{&LX8*HSY^bu<DQWlH|5*5Lu;GcPGvtcI_lVzneEo;Zxy;hqwrwfv+0$7!y|GTZvCr$8"
    "-NEb*yCshkRzI45^vpW@qp8L=n}g!72rTCOyuZ2I-N;LS!sLnO;Ve5!{pAnGD}CI5?5AexF}u4Pq>^XXZ+q+0-1OA+"
    "m4xY+^#OBvHga>cFr`PRI@)%pTW^?I&TpW&Gr#@k*{y#~*U77Gn)Nf&%I{KaUH40m%9=^vPrYG?I0DMH&W^KWI~4yj"
    "u>J6rRu-*d6S_3#`Foued6#|)F4|tn`E*ZE=GTtjDHoh#XDq18FV}s$yPdCn0&~EYH5ZT1ezJ)pTSfF5s5Ee#rTxKi"
    "vSy3Ge+K?-Ckq~zPFr@MuV|+DoePYSwtb(b9h@TBy4QSn{DyD8gC=Dx2=ASF6{t<$ah9cxK&8<P0q6e=LMszX7kdep"
    "KdV*`T&$q7qU-<zhkihy29uLE_pJG9n#cD5>lFqq$61~=0(Cyi7+LHYSg%{C_rGh`X5wTPOHw_3`=INKx;G9?S=_lB"
    "Lnqq;RjWGAirgbmKUuQ@=r9I*t=u>K=N9{WF8-7GE~D?G=T+7WMn#sXpkm5#R^}gp`X{Fn82SG*sD>C?^>|j?{3e=K"
    "GKodIw39t#g^%-*^po!<Je<a$`@mY~u3Us>>a~*-7cM<CuUHXcQ$;_E{6C*%3@q0F865I?y>Goe>L;u3`{dAkU_r{e"
    "fZ;2%HUMhWshj"
)
