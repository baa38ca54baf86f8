"""What scanners write into a slice beside what is read here: without it, phantom slices would be parsed too fast."""

from pydicom.dataset import Dataset

# Standard elements of an MR slice, with the values of an ordinary spin echo; nothing in them depends on the image.
_STANDARD = {
    "InstanceCreationDate": "20010101",
    "InstanceCreationTime": "120000",
    "AcquisitionDate": "20010101",
    "AcquisitionTime": "120000",
    "InstitutionName": "",
    "InstitutionAddress": "",
    "StationName": "PHANTOM",
    "InstitutionalDepartmentName": "",
    "PerformingPhysicianName": "",
    "OperatorsName": "",
    "ManufacturerModelName": "PHANTOM",
    "PatientAge": "",
    "PatientWeight": None,
    "SequenceName": "se",
    "AngioFlag": "N",
    "NumberOfAverages": "1",
    "ImagingFrequency": "63.86",
    "ImagedNucleus": "1H",
    "EchoNumbers": "1",
    "MagneticFieldStrength": "1.5",
    "NumberOfPhaseEncodingSteps": "192",
    "PercentSampling": "75",
    "PercentPhaseFieldOfView": "100",
    "PixelBandwidth": "122.07",
    "DeviceSerialNumber": "0",
    "SoftwareVersions": "1",
    "ProtocolName": "BRAIN",
    "HeartRate": "0",
    "CardiacNumberOfImages": "0",
    "TriggerWindow": "0",
    "ReconstructionDiameter": "240",
    "ReceiveCoilName": "HEAD",
    "TransmitCoilName": "BODY",
    "AcquisitionMatrix": [256, 0, 0, 192],
    "InPlanePhaseEncodingDirection": "ROW",
    "FlipAngle": "90",
    "VariableFlipAngleFlag": "N",
    "SAR": "0.1",
    "dBdt": "0",
    "ImagesInAcquisition": "1",
    "SmallestImagePixelValue": 0,
    "LargestImagePixelValue": 4095,
    "LossyImageCompression": "00",
    "PerformedProcedureStepStartDate": "20010101",
    "PerformedProcedureStepStartTime": "120000",
    "PerformedProcedureStepID": "1",
    "PerformedProcedureStepDescription": "MR BRAIN",
}
_N_PRIVATE = 24  # numbers of its own that a maker adds, in one private block


def scanner_header() -> Dataset:
    """About 70 elements, which make the headers of written slices about as long as those of clinical scanners."""
    header = Dataset()
    for name, value in _STANDARD.items():
        setattr(header, name, value)
    block = header.private_block(0x0019, "PHANTOM", create=True)
    for offset in range(_N_PRIVATE):
        block.add_new(offset, "DS", "0.000000")
    return header
