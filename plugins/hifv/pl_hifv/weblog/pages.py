def importdata_page(page, ctx, result): page.section("Result")
flagdata_page=vlasetjy_page=priorcals_page=exportdata_page=importdata_page
