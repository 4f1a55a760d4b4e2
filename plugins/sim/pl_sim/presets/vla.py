"""VLA observations: L, C, X and Ka band, configurations A and D, continuum and line, several bands, two blocks."""

from __future__ import annotations

from pl_sim.observation import Antenna, Array, Component, Observation, Receiver, Scan, Source, Spw
from pl_sim.presets import preset
from pl_sim.instrument import Instrument
from pathlib import Path

def array_d(n):
    import casadata
    out=[]
    for line in (Path(casadata.datapath)/"alma/simmos/vla.d.cfg").read_text().splitlines():
        if line.startswith('#'): continue
        f=line.split()
        out.append(Antenna(f"ea{len(out)+1:02d}", f[4], tuple(float(x) for x in f[:3])))
    return Array("EVLA","D",tuple(out[::max(1,27//n)][:n]))

@preset("vla-smoke","smoke test")
def smoke(scale):
    rx=Receiver("EVLA_C",4e9,8e9)
    n={'tiny':8,'small':14,'full':27}[scale]
    spws=tuple(Spw(f"EVLA_C#A0C0#{k}",rx,4.488e9+k*128e6,2e6,64,"A0C0",12) for k in range(4))
    src=(Source("1331+305=3C286",202.784533,30.509155,(Component(10**1.2481,1e9,(-0.4507,-0.1798,0.0357),polarized_fraction=.112,polarization_angle_deg=33),)),
         Source("TGT",200.0,31.5,(Component(0.12,5e9,(),60,-30),Component(0.2,5e9,(-0.7,),-20,50,major_arcsec=8),)))
    I=lambda *x: tuple(f"{i}#UNSPECIFIED" for i in x)
    scans=(Scan.simple(1,src[0].name,60,I("CALIBRATE_BANDPASS","CALIBRATE_FLUX"),(0,1,2,3)),Scan.simple(2,"TGT",300,I("OBSERVE_TARGET"),(0,1,2,3)))
    return Observation("vla-smoke",array_d(n),spws,src,scans,"2023-05-10T04:50:00",5.0,Instrument(leakage=0.05))
