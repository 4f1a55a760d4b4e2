"""The observatories' 32 procedures as stage lists (reference pipeline, 2026), and the XML they are delivered in.

Written with the segments that several procedures share.  ``COUNTS`` are the numbers of commands, breakpoints
included, counted in the originals: an independent check of the lists.
"""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

Entry = tuple[str, dict]


def s(stage: str, **parameters) -> Entry:
    return (stage, parameters)


def image(*, makeimages: dict | None = None, **makeimlist) -> list[Entry]:
    """A list of images to make, and their making."""
    return [s("hif_makeimlist", **makeimlist), s("hif_makeimages", **(makeimages or {}))]


BREAK = s("breakpoint")
PSF_CALS = "PHASE,BANDPASS,AMPLITUDE"
POL_INTENTS = "PHASE,BANDPASS,AMPLITUDE,POLARIZATION,POLANGLE,POLLEAKAGE"
UNWANTED = (
    "*POINTING*,*FOCUS*,*ATMOSPHERE*,*SIDEBAND_RATIO*, *UNKNOWN*, *SYSTEM_CONFIGURATION*, *UNSPECIFIED#UNSPECIFIED*"
)


def a1(**importdata) -> list[Entry]:
    return [
        s("hifa_importdata", **(importdata or {"dbservice": True})), s("hifa_flagdata"), s("hifa_fluxcalflag"),
        s("hif_rawflagchans"), s("hif_refant"), s("h_tsyscal"), s("hifa_tsysflag"),
    ]  # fmt: skip


A1 = a1()
A2 = [
    s("hifa_antpos"), s("hifa_wvrgcalflag"), s("hif_lowgainflag"), s("hif_setmodels"), s("hifa_bandpassflag"),
    s("hifa_bandpass"), s("hifa_spwphaseup"), s("hifa_gfluxscaleflag"),
]  # fmt: skip
RENORM = s("hifa_renorm", createcaltable=True, atm_auto_exclude=True)
A3 = [s("hifa_gfluxscale"), s("hifa_timegaincal"), RENORM, s("hifa_targetflag")]
SIZE = s("hif_checkproductsize", maxcubesize=40, maxcubelimit=60, maxproductsize=500)
A4 = [*image(intent="CHECK", per_eb=True), s("hifa_imageprecheck"), SIZE, s("hifa_exportdata")]
POL = [
    *a1(minparang=60, dbservice=True), *A2, s("hifa_polcalflag"), s("hifa_session_refant"), s("hifa_lock_refant"),
    s("hifa_bandpass", unregister_existing=True), s("hifa_spwphaseup", unregister_existing=True), *A3,
]  # fmt: skip
T0 = [s("hif_mstransform"), s("hifa_flagtargets"), s("hif_findroi"), s("hif_findcont"), s("hif_uvcontsub")]
T1 = [
    *image(specmode="mfs"), *image(specmode="cont"), *image(specmode="repBW"), s("hif_selfcal"),
    *image(specmode="mfs", datatype="selfcal"), *image(specmode="cont", datatype="selfcal"),
    *image(specmode="cube", datatype="best"), *image(specmode="repBW", datatype="selfcal"),
]  # fmt: skip
TP = [
    entry
    for mode in ("mfs", "cont", "cube", "repBW")
    for entry in (*image(specmode=mode), *image(specmode=mode, stokes="IQUV"))
]
RESTORE_AND_SPLIT = [
    s("hifa_restoredata", copytoraw=False), s("hif_mstransform"), s("hifa_flagtargets"), s("hif_findroi"),
    s("hifa_imageprecheck"), SIZE, s("hif_findcont"), s("hif_uvcontsub"),
]  # fmt: skip
IMAGES_ONLY = s("hifa_exportdata", imaging_products_only=True)

HIFA_CAL = [
    *A1, s("hifa_tsysflagcontamination"), *A2, *A3, s("hif_applycal"), *image(intent=PSF_CALS), *A4,
]  # fmt: skip
HIFA_CAL_DIFFGAIN = [
    *A1, *A2, s("hifa_gfluxscale"), s("hifa_diffgaincal"), s("hifa_timegaincal"), RENORM, s("hifa_targetflag"),
    s("hif_applycal"), *image(intent=f"{PSF_CALS},DIFFGAINREF,DIFFGAINSRC"), *A4,
]  # fmt: skip
HIFA_POLCAL = [
    *POL, s("hifa_polcal"), s("hif_applycal", parang=True), *image(intent=POL_INTENTS),
    *image(intent="POLARIZATION", specmode="cont", per_session=True), *A4,
]  # fmt: skip
HIFA_POLCAL_I = [*POL, s("hif_applycal"), *image(intent=POL_INTENTS), *A4]

VF = s("hifv_flagdata", hm_tbuff="1.5int", fracspw=0.01, intents=UNWANTED)
V1 = [
    s("hifv_importdata"), s("hifv_hanning"), VF, s("hifv_vlasetjy"), s("hifv_priorcals"), s("hifv_syspower"),
    s("hifv_testBPdcals"), s("hifv_checkflag", checkflagmode="bpd-vla"), s("hifv_semiFinalBPdcals"),
    s("hifv_checkflag", checkflagmode="allcals-vla"), s("hifv_solint"), s("hifv_fluxboot"), s("hifv_finalcals"),
    s("hifv_applycals"), s("hifv_checkflag", checkflagmode="target-vla"), s("hifv_statwt"), s("hifv_plotsummary"),
    *image(intent="PHASE,BANDPASS", specmode="cont", makeimages={"hm_masking": "centralregion"}), s("hifv_exportdata"),
]  # fmt: skip
VC = s("hif_checkproductsize", maximsize=16384)
VQ = s("hif_checkproductsize", maxproductsize=100, maxcubesize=20, maxcubelimit=40)
SPLIT = [s("hifv_mstransform"), s("hifv_flagtargetsdata")]
SPLIT_CONT = [s("hifv_mstransform", omit_contline_ms=True), s("hifv_flagtargetsdata")]
V_IMAGES_ONLY = s("hifv_exportdata", imaging_products_only=True)


def vi(**makeimlist) -> list[Entry]:
    return image(makeimages={"hm_cyclefactor": 3.0}, **makeimlist)


LINES = [VQ, s("hif_findcont"), s("hif_uvcontsub"), VC, *vi(specmode="cont"), VQ, *vi(specmode="cube")]
LINES_SELFCAL = [
    *LINES, VC, s("hif_selfcal"), *vi(specmode="cont", datatype="selfcal"), VQ,
    *vi(specmode="cube", datatype="selfcal"),
]  # fmt: skip
CONT_SELFCAL = [
    VC, *vi(specmode="cont", datatype="regcal"), s("hif_selfcal"), *vi(specmode="cont", datatype="selfcal"),
]  # fmt: skip
NOTHING_FLAGGED = {
    "hm_tbuff": "manual", "quack": False, "edgespw": False, "clip": False, "scan": False, "autocorr": False,
    "template": False, "online": False, "baseband": False,
}  # fmt: skip
SKY_SURVEY = [
    s("hifv_importdata"), s("hifv_hanning"),
    s("hifv_flagdata", intents=UNWANTED, flagbackup=False, scan=True, baseband=False, clip=True, autocorr=True,
      hm_tbuff="manual", template=True, online=True, tbuff=0.225, fracspw=0.0, shadow=True, quack=False, edgespw=False),
    s("hifv_vlasetjy"), s("hifv_priorcals", show_tec_maps=True, apply_tec_correction=False, swpow_spw="6,14"),
    s("hifv_testBPdcals", doflagundernspwlimit=False), s("hifv_checkflag", checkflagmode="bpd-vlass"),
    s("hifv_semiFinalBPdcals"), s("hifv_checkflag", checkflagmode="allcals-vlass"),
    s("hifv_solint", limit_short_solint=0.45), s("hifv_fluxboot", fitorder=2), s("hifv_finalcals"),
    s("hifv_circfeedpolcal"), s("hifv_flagcal"),
    s("hifv_applycals", flagsum=False, flagdetailedsum=False, gainmap=True),
    s("hifv_checkflag", checkflagmode="target-vlass"), s("hifv_statwt"), s("hifv_plotsummary"), s("hifv_fixpointing"),
    s("hifv_exportdata", gainmap=True, exportmses=False, exportcalprods=True),
]  # fmt: skip
SE_TRANSFORM = s(
    "hif_transformimagedata", datacolumn="data", clear_pointing=False, modify_weights=True, wtmode="nyq"
)  # fmt: skip
SE_LIST = s("hif_editimlist", parameter_file="SEIP_parameter.list")
CUTOUTS = [s("hifv_pbcor"), s("hif_makermsimages"), s("hif_makecutoutimages")]
MANUAL = s("hif_makeimages", hm_masking="manual")
CALIBRATED = s("hifa_importdata", datacolumns={"data": "raw", "corrected": "regcal_contline_all"})
V_CALIBRATED = s("hifv_importdata", datacolumns={"data": "raw", "corrected": "regcal_contline_all"})
CUBE_OPEN = {
    "specmode": "cube", "field": "{{field_list}}", "spw": "{{spw}}", "restfreq": "{{restfreq}}", "start": "{{start}}",
    "width": "{{width}}", "nchan": "{{nchan}}",
}  # fmt: skip
REPEAT = s("hif_makeimages", overwrite_on_export=False)

PROCEDURES: dict[str, list[Entry]] = {
    "procedure_hifa_cal": HIFA_CAL,
    "procedure_hifa_cal_diffgain": HIFA_CAL_DIFFGAIN,
    "procedure_hifa_calimage": [*HIFA_CAL, BREAK, *T0, *T1, s("hifa_exportdata")],
    "procedure_hifa_calimage_diffgain": [*HIFA_CAL_DIFFGAIN, BREAK, *T0, *T1, s("hifa_exportdata")],
    "procedure_hifa_calsurvey": [
        *A1, *A2, s("hifa_gfluxscale"), s("hifa_timegaincal"),
        s("hif_applycal", intent="PHASE,BANDPASS,AMPLITUDE,CHECK"), *image(intent=PSF_CALS),
        *image(intent="CHECK", per_eb=True), s("hifa_exportdata"),
    ],
    "procedure_hifa_image": [*RESTORE_AND_SPLIT, *T1, IMAGES_ONLY],
    "procedure_hifa_polcal": HIFA_POLCAL,
    "procedure_hifa_polcal_totalintensity": HIFA_POLCAL_I,
    "procedure_hifa_polcalimage": [*HIFA_POLCAL, BREAK, *T0, *TP, s("hifa_exportdata")],
    "procedure_hifa_polcalimage_totalintensity": [
        *HIFA_POLCAL_I, BREAK, *T0, *image(specmode="mfs"), *image(specmode="cont"), *image(specmode="cube"),
        *image(specmode="repBW"), s("hifa_exportdata"),
    ],
    "procedure_hifa_polimage": [*RESTORE_AND_SPLIT, *TP, IMAGES_ONLY],
    "procedure_hifv": V1,
    "procedure_hifv_calimage_cont": [*V1, *SPLIT_CONT, VC, *vi(specmode="cont"), s("hifv_exportdata")],
    "procedure_hifv_calimage_cont_cube": [*V1, *SPLIT, *LINES, s("hifv_exportdata")],
    "procedure_hifv_calimage_cont_cube_selfcal": [*V1, *SPLIT, *LINES_SELFCAL, s("hifv_exportdata")],
    "procedure_hifv_calimage_cont_selfcal": [*V1, *SPLIT_CONT, *CONT_SELFCAL, s("hifv_exportdata")],
    "procedure_hifv_cont_cube_image": [s("hifv_importdata"), *SPLIT, *LINES, V_IMAGES_ONLY],
    "procedure_hifv_cont_cube_image_selfcal": [s("hifv_importdata"), *SPLIT, *LINES_SELFCAL, V_IMAGES_ONLY],
    "procedure_hifv_contimage": [s("hifv_importdata"), *SPLIT_CONT, VC, *vi(specmode="cont"), V_IMAGES_ONLY],
    "procedure_hifv_contimage_selfcal": [s("hifv_importdata"), *SPLIT_CONT, *CONT_SELFCAL, V_IMAGES_ONLY],
    "procedure_hifv_nofluxcal": [
        s("hifv_importdata", specline_spws="none"), s("hifv_hanning"),
        s("hifv_flagdata", intents=UNWANTED, edgespw=False, baseband=False, hm_tbuff="1.5int"),
        s("hifv_priorcals", apply_swpowcal=True, show_tec_maps=False), s("hifv_testBPdcals"), s("hifv_solint"),
        s("hifv_fluxboot"), s("hifv_finalcals", use_flux_cal=False), s("hifv_applycals"),
        s("hifv_flagdata", autocorr=False, baseband=True, edgespw=True, fracspw=0.01, hm_tbuff="manual", tbuff=0.0,
          clip=False, shadow=False, quack=False, template=False, online=False),
        s("hifv_checkflag", checkflagmode="bpd-vla"), s("hifv_checkflag", checkflagmode="target-vla"), s("hifv_statwt"),
        s("hifv_plotsummary"), s("hifv_mstransform"),
        *image(intent="PHASE", specmode="cont", makeimages={"hm_masking": "auto", "hm_cyclefactor": 2}), VC,
        *image(intent="TARGET", specmode="cont", makeimages={"hm_masking": "auto", "hm_cyclefactor": 2}),
        s("hifv_exportdata"),
    ],
    "procedure_hifvcalvlass": SKY_SURVEY,
    "procedure_hifvcalvlass_compression": [*SKY_SURVEY[:5], s("hifv_syspower"), *SKY_SURVEY[5:]],
    "procedure_vlassQLIP": [
        s("hifv_importdata", nocopy=True), s("hif_editimlist", parameter_file="QLIP_parameter.list"),
        s("hif_transformimagedata", datacolumn="corrected", clear_pointing=True, modify_weights=False),
        s("hif_makeimages", hm_cleaning="manual", hm_masking="none"), *CUTOUTS, s("hifv_flagdata", **NOTHING_FLAGGED),
        s("hifv_exportvlassdata"),
    ],
    "procedure_vlassSEIP": [
        s("hifv_importdata", nocopy=True), SE_LIST, SE_TRANSFORM,
        s("hifv_vlassmasking", maskingmode="vlass-se-tier-1", vlass_ql_database="catalogue.fits"), MANUAL,
        s("hifv_checkflag", checkflagmode="vlass-imaging"),
        s("hifv_statwt", statwtmode="VLASS-SE", datacolumn="residual_data"),
        s("hifv_selfcal", selfcalmode="VLASS-SE"), SE_LIST, MANUAL, SE_LIST,
        s("hifv_vlassmasking", maskingmode="vlass-se-tier-2"), MANUAL, *CUTOUTS, s("hif_analyzealpha"),
        s("hifv_exportvlassdata"),
    ],
    "procedure_vlassCCIP": [
        s("hifv_importdata", nocopy=True), SE_LIST, SE_TRANSFORM, s("hifv_restorepims"), s("hifv_flagtargetsdata"),
        s("hif_editimlist", parameter_file="CCIP_parameter.list", editmode="replace"), MANUAL, *CUTOUTS,
        s("hifv_analyzestokescubes"), s("hifv_exportvlassdata"),
    ],
    "procedure_hsd_calimage": [
        s("hsd_importdata"), s("hsd_flagdata"), s("h_tsyscal"), s("hsd_tsysflag"), s("hsd_skycal"), s("hsd_k2jycal"),
        s("hsd_applycal"), s("hsd_atmcor"), s("hsd_baseline"), s("hsd_blflag"), s("hsd_baseline"), s("hsd_blflag"),
        s("hsd_imaging"), s("hsd_exportdata"),
    ],
    "procedure_hsdn_calimage": [
        s("hsdn_importdata"), s("h_tsyscal"), s("hsd_tsysflag"), s("hsd_skycal"), s("hsd_applycal"), s("hsd_baseline"),
        s("hsd_blflag"), s("hsd_baseline"), s("hsd_blflag"), s("hsd_imaging"), s("hsdn_exportdata"),
    ],
    "template_hifa_cubeimage": [
        CALIBRATED, s("hifa_restoredata", copytoraw=False), s("hif_mstransform"),
        s("hifa_imageprecheck", desired_angular_resolution="{{desired_angular_resolution}}"),
        s("hif_checkproductsize", maxcubesize=100, maxcubelimit=120, maxproductsize=10000),
        s("hif_findcont", field="{{field_list}}"), s("hif_uvcontsub", field="{{field_list}}"),
        *image(specmode="cont", field="{{field_list}}"),
        s("hif_editimlist", imaging_mode="ALMA", nbin=-1, **CUBE_OPEN), REPEAT,
        s("hif_selfcal", field="{{field_list}}", recal=True),
        *image(specmode="cont", field="{{field_list}}", datatype="selfcal"),
        s("hif_editimlist", imaging_mode="ALMA", nbin=-1, datatype="selfcal", **CUBE_OPEN), REPEAT, IMAGES_ONLY,
    ],
    "template_hifa_deliver_ms": [
        CALIBRATED, s("hifa_flagdata"), s("hifa_restoredata", copytoraw=False),
        s("hif_mstransform", chanbin="{{chanbin}}", timebin="{{timebin}}", intent="{{intent}}",
          field="{{{field_list}}}", spw="{{spw}}"),
        s("hifa_exportdata"),
    ],
    "template_hifv_cubeimage": [
        V_CALIBRATED, s("hifv_restoredata", copytoraw=False), s("hifv_statwt"),
        s("hifv_mstransform", field="{{field_list}}"), s("hifv_flagtargetsdata"), VQ,
        s("hif_findcont", field="{{field_list}}"), s("hif_uvcontsub", field="{{field_list}}"),
        s("hif_editimlist", imaging_mode="VLA", editmode="replace", **CUBE_OPEN), REPEAT, VC,
        *vi(specmode="cont", field="{{field_list}}"), s("hif_selfcal", field="{{field_list}}", recal=True),
        *vi(specmode="cont", field="{{field_list}}", datatype="selfcal"), VQ,
        s("hif_editimlist", imaging_mode="VLA", editmode="replace", datatype="selfcal", **CUBE_OPEN), REPEAT,
        V_IMAGES_ONLY,
    ],
    "template_hifv_deliver_ms": [
        V_CALIBRATED, s("hifv_restoredata", copytoraw=False), s("hifv_statwt"),
        s("hifv_mstransform", chanbin="{{chanbin}}", timebin="{{timebin}}", intent="{{intent}}",
          field="{{{field_list}}}", spw="{{spw}}"),
        s("hifv_exportdata"),
    ],
}  # fmt: skip

COUNTS = {
    "procedure_hifa_cal": 28, "procedure_hifa_cal_diffgain": 28, "procedure_hifa_calimage": 50,
    "procedure_hifa_calimage_diffgain": 50, "procedure_hifa_calsurvey": 23, "procedure_hifa_image": 24,
    "procedure_hifa_polcal": 35, "procedure_hifa_polcal_totalintensity": 32, "procedure_hifa_polcalimage": 58,
    "procedure_hifa_polcalimage_totalintensity": 47, "procedure_hifa_polimage": 25, "procedure_hifv": 20,
    "procedure_hifv_calimage_cont": 26, "procedure_hifv_calimage_cont_cube": 32,
    "procedure_hifv_calimage_cont_cube_selfcal": 39, "procedure_hifv_calimage_cont_selfcal": 29,
    "procedure_hifv_cont_cube_image": 13, "procedure_hifv_cont_cube_image_selfcal": 20, "procedure_hifv_contimage": 7,
    "procedure_hifv_contimage_selfcal": 10, "procedure_hifv_nofluxcal": 21, "procedure_hifvcalvlass": 20,
    "procedure_hifvcalvlass_compression": 21, "procedure_vlassQLIP": 9, "procedure_vlassSEIP": 18,
    "procedure_vlassCCIP": 12, "procedure_hsd_calimage": 14, "procedure_hsdn_calimage": 11,
    "template_hifa_cubeimage": 17, "template_hifa_deliver_ms": 5, "template_hifv_cubeimage": 20,
    "template_hifv_deliver_ms": 5,
}  # fmt: skip


def procedure_xml(name: str) -> str:
    """The procedure as the observatories' XML."""
    root = Element("ProcessingProcedure")
    SubElement(root, "ProcedureTitle").text = name.removeprefix("procedure_")
    for stage, parameters in PROCEDURES[name]:
        command = SubElement(root, "ProcessingCommand")
        SubElement(command, "Command").text = stage
        group = SubElement(command, "ParameterSet")
        for keyword, value in parameters.items():
            parameter = SubElement(group, "Parameter")
            SubElement(parameter, "Keyword").text = keyword
            SubElement(parameter, "Value").text = str(value)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")
