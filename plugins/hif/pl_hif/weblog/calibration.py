def refant_page(page, ctx, result): page.section("Result")
bandpass_page = gaincal_page = fluxscale_page = refant_page
